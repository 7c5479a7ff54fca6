// What each of banyanctl's commands does, given a client and a place to print. Every one returns
// the process's exit code.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "admin/ctl/http_client.hpp"
#include "admin/ctl/render.hpp"

namespace banyan::ctl {

enum Exit : int {
    exit_ok = 0,
    exit_unexpected = 1,  ///< usage, or something nobody foresaw
    exit_refused = 2,     ///< refused, a gate does not pass, or a verification found differences
    exit_unreachable = 3,
    exit_not_done = 4,  ///< a transition or verification was aborted, timed out or failed
    exit_unauthorized = 5,
};

struct Console {
    std::ostream& out;
    std::ostream& err;
    std::istream& in;
    Style style;            ///< for `out`
    Style error_style;      ///< for `err`
    bool terminal = false;  ///< `out` is one: progress may rewrite a line
    bool json = false;
};

struct ChangeOptions {
    std::string to;  ///< empty: the next (or previous) phase
    std::string reason;
    bool yes = false;
    bool dry_run = false;
    bool override_gates = false;
    bool no_wait = false;
    bool end_blocking_sessions = false;
    bool keep_blocking_sessions = false;
    std::optional<std::int64_t> deadline_ms;
};

struct VerifyOptions {
    std::vector<std::string> tables;
    bool repair = false;
    bool wait = false;
};

class Commands {
   public:
    Commands(HttpClient& client, Console& console) : client_(client), console_(console) {}

    int status();
    /// Again and again; `count` 0: until interrupted.
    int watch(std::chrono::milliseconds interval, std::int64_t count);
    int preflight();
    int configuration();
    int gates(const std::string& to);
    /// `forward`: to the next phase, else to the previous one.
    int change_phase(bool forward, const ChangeOptions& options);
    int transitions();
    /// Empty: the one running.
    int cancel(const std::string& id);
    /// Empty: show it.
    /// action: "install", "remove"; anything else lists.
    int capture(const std::string& action);
    int backfill(const std::string& action, bool wait);
    int verify(const VerifyOptions& options);
    int tables(const std::string& name);
    int discrepancies(const std::string& fingerprint);
    /// `hours` 0: for good.
    int acknowledge(const std::string& fingerprint, const std::string& note, double hours);
    int shadow(std::optional<double> share);
    int shadow_times();
    int journal();
    int sessions();
    int audit(std::int64_t limit, std::optional<std::int64_t> before);
    int check_audit();
    int reload();

   private:
    /// Sends; on anything but success prints why and sets `code`.
    std::optional<Reply> call(const std::string& method, const std::string& target, int& code,
                              const std::optional<boost::json::value>& body = std::nullopt);
    int explain(const Reply& reply);
    /// GET `target` and print it as one object, or as a table of its member `list`.
    int show(const std::string& target);
    int show_list(const std::string& target, const std::string& list,
                  const std::vector<Column>& columns);
    bool print_json(const boost::json::value& value);
    bool confirm(const std::string& from, const std::string& to);
    int wait_for_transition(const std::string& target, boost::json::value transition);
    int wait_for_verification(const std::string& target, boost::json::value verification);
    int wait_for_backfill(boost::json::value backfill);
    /// GET again after a moment; survives ten seconds without an answer.
    std::optional<boost::json::value> poll(const std::string& target, int& code);
    void progress(const std::string& text);
    void end_progress();
    /// Where progress() may not rewrite a line: the same as a line of its own, now and then.
    void progress_line(const std::string& text);

    HttpClient& client_;
    Console& console_;
    std::string last_progress_;
    std::chrono::steady_clock::time_point next_line_{};
};

}  // namespace banyan::ctl
