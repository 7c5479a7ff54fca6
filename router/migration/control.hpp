// The control plane's core: the migration as a resource with a phase, gates, transitions, tables,
// backfill, verifications, discrepancies and an audit log. Everything the admin API does goes
// through here; answers are JSON values whose shapes router/migration/README.md documents.
// All members are thread-safe. Owns the worker threads (repair, backfill, verify, probe).
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "router/config/config.hpp"
#include "router/metrics/sample.hpp"
#include "router/metrics/counters.hpp"
#include "router/migration/blocking.hpp"
#include "router/breaker/breaker.hpp"
#include "router/migration/fleet.hpp"
#include "router/model/result.hpp"
#include "router/shadow/discrepancy.hpp"
#include "router/state/ledger.hpp"
#include "router/state/state_db.hpp"

namespace banyan::router {

/// Who asks, for the audit log.
struct Actor {
    std::string name;     ///< token name, or "banyan"
    std::string address;  ///< peer address
};

/// Why the control plane refused. `status` is the HTTP status that fits; `type` a stable word.
struct Refusal {
    int status = 400;
    std::string type;   ///< e.g. "illegal-step", "stale-from", "gates-failed", "not-found", "conflict"
    std::string title;  ///< one sentence for a person
    boost::json::object extra;  ///< e.g. {"current_phase": ..., "gates": [...]}
};

template <class T>
using Answer = boost::system::result<T, Refusal>;
[[noreturn]] void throw_exception_from_error(const Refusal& refusal, const boost::source_location&);

struct TransitionRequest {
    Phase from = Phase::initial;
    Phase to = Phase::dual_write;
    std::string reason;
    bool dry_run = false;
    bool override_gates = false;  ///< pass failing or inconclusive gates; needs a reason; audited
    std::optional<std::chrono::milliseconds> deadline;
    std::optional<OnBlocked> on_blocked;  ///< nullopt: as configured
};

/// What becomes of a transition that is under way when Banyan is to end.
enum class OnTransition : std::uint8_t {
    cancel,  ///< it is, if it still can be; otherwise it goes on to its end
    refuse,  ///< then Banyan does not end
};

class Lease;

class Control {
   public:
    /// `lease`: of enter_migration(); null: none is kept.
    Control(const Config& config, StateDb& db, Ledger& ledger, Breaker& breaker,
            Lease* lease = nullptr);
    ~Control();

    /// The persisted phase; the fleet must start its sessions with directive().
    Directive directive() const;
    /// Starts the workers and takes up the persisted phase. `fleet` outlives stop().
    Result<void> start(Fleet& fleet);
    void stop();

    boost::json::object status();
    boost::json::array gates(Phase to);
    Answer<boost::json::object> create_transition(const TransitionRequest& request, const Actor& actor);
    boost::json::array transitions();
    std::optional<boost::json::object> transition(const std::string& id);
    Answer<boost::json::object> cancel_transition(const std::string& id, const Actor& actor);

    boost::json::array tables();
    std::optional<boost::json::object> table(const std::string& name);

    boost::json::object backfill();
    /// action: "start", "pause", "resume".
    Answer<boost::json::object> backfill_action(const std::string& action, const Actor& actor);

    /// Deep capture (router/capture): what is installed where. Asks both databases.
    boost::json::object capture();
    /// On both sides, table by table, with short lock waits; may take seconds for each busy table.
    Answer<boost::json::object> install_capture(const Actor& actor);
    Answer<boost::json::object> remove_capture(const Actor& actor);

    boost::json::array verifications();
    std::optional<boost::json::object> verification(const std::string& id);
    /// Empty `tables`: all. `repair`: differing keys become dirty.
    Answer<boost::json::object> create_verification(const std::vector<std::string>& tables,
                                                    bool repair, const Actor& actor);
    Answer<boost::json::object> stop_verification(const std::string& id, const Actor& actor);

    boost::json::object discrepancies();
    std::optional<boost::json::object> discrepancy(const std::string& fingerprint);
    Answer<boost::json::object> acknowledge_discrepancy(const std::string& fingerprint, const std::string& note,
                                                   std::optional<std::int64_t> until_unix_ms,
                                                   const Actor& actor);

    boost::json::object shadow();
    /// How long statements take on each side; router/migration/README.md, "shadow/times".
    boost::json::object shadow_times(std::size_t limit);
    Answer<boost::json::object> set_shadow(std::optional<double> share, const Actor& actor);

    boost::json::object journal();
    boost::json::array sessions();
    /// Newest first, at most `limit`, older than `before` (id) if given.
    boost::json::array audit(std::size_t limit, std::optional<std::int64_t> before);

    /// What would get in the migration's way, and how to mend it (router/preflight). Blocking: asks
    /// both databases, unless it did in the last 5 s.
    boost::json::object preflight();
    /// The configuration in force: {"file", "keys": {key: value}}, secrets hidden.
    boost::json::object configuration();
    /// Recomputes the audit log's chain: {"entries", "intact", "first_broken": id|null}.
    boost::json::object check_audit();

    /// Prometheus samples of the control plane.
    using Sample = router::Sample;
    std::vector<Sample> samples();

    /// True if clients can be served: the current primary answers, and Banyan is not draining. For
    /// /readyz. `why` says what is wrong.
    bool primary_ready(std::string& why);

    // --- life (life.cpp) ---

    bool transition_running() const;
    /// From here on Banyan is not ready, says so in status(), and no transition begins. False: one
    /// is under way, and nothing has changed.
    bool begin_draining(OnTransition on_transition);
    /// The drain was called off.
    void end_draining();
    /// What reload() calls; before anything can call that.
    using Reloader = std::function<Answer<boost::json::object>()>;
    void on_reload(Reloader reloader);
    /// Reads the configuration file again: {"applied": [key], "restart": [{"key", "keeps"}]}.
    Answer<boost::json::object> reload(const Actor& actor);

    // --- called by sessions, any thread ---

    /// A shadow read whose answers were equal, to be run again; see router/shadow/rerun.hpp.
    void offer_rerun(PendingDiscrepancy read);
    /// A shadow read differed. Bounded queue; dropped and counted when full.
    void report_discrepancy(PendingDiscrepancy pending);
    /// DDL committed, or a statement met a relation the catalogue does not know: load it again soon.
    void request_catalog_reload();
    /// An authenticated session could not reach the mirror, or could again; wakes the probe.
    void wake_probe();

   private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace banyan::router
