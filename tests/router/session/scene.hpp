// One session between a client and two fake servers. A test sends client bytes and looks at what
// came out; everything that happened, in order, is in `events`.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fake_server.hpp"
#include "router/session/session_machine.hpp"
#include "tests/router/sql/sample_catalog.hpp"

namespace banyan::test {

using router::CommitIntent;
using router::CommitOutcome;
using router::Counter;
using router::Deadline;
using router::Directive;
using router::Phase;
using router::SessionMachine;
using router::Side;
using router::SuspectMark;
using router::TxnId;

inline std::string outcome_text(CommitOutcome outcome) {
    return outcome == CommitOutcome::mirrored       ? "mirrored"
           : outcome == CommitOutcome::not_mirrored ? "not_mirrored"
                                                    : "rolled_back";
}

/// An SSLRequest, a GSSENCRequest: a startup packet that is a code alone.
inline std::string request(std::uint32_t code) {
    std::string out;
    protocol::put_int32(out, 8);
    protocol::put_int32(out, code);
    return out;
}

/// A SessionPort that records every call and answers none by itself.
class ScriptedPort final : public router::SessionPort {
   public:
    explicit ScriptedPort(Lines& events)
        : events_(events), current(std::make_shared<const router::Catalog>(versioned(1))) {}

    static router::Catalog versioned(std::uint64_t version) {
        router::Catalog catalog = router::sample_catalog();
        catalog.version = version;
        return catalog;
    }

    void connect(Side side) override { connects.push_back(side); }
    void close_server(Side side) override { closed.insert(side); }
    bool offers_tls() override { return tls; }
    void start_client_tls() override { events_.push_back("start tls"); }
    void close_client() override { client_closed = true; }
    void session_over() override { over = true; }
    bool admit_client() override { return room_for_clients; }
    bool admit_user(const std::string&) override { return room_for_user; }
    std::uint32_t cancel_key(std::uint32_t process_id) override { return process_id + 1000; }
    void send_cancel(Side side, std::uint32_t process_id, std::uint32_t) override {
        cancels.push_back(side);
        events_.push_back("cancel " + std::string(to_string(side)) + " " +
                          std::to_string(process_id));
    }
    TxnId begin_commit(CommitIntent intent) override {
        events_.push_back("journal");
        intents.push_back(std::move(intent));
        unanswered.push_back(intents.size());
        return intents.size();
    }
    void finish(TxnId txn, CommitOutcome outcome) override {
        finished.emplace_back(txn, outcome);
        events_.push_back("finish " + std::to_string(txn) + " " + outcome_text(outcome));
    }
    void lose(TxnId txn, std::vector<router::LimboBackend> backends) override {
        std::string text = "lose " + std::to_string(txn);
        for (const auto& backend : backends) {
            text += " " + std::string(to_string(backend.side)) + ":" +
                    std::to_string(backend.process_id);
        }
        events_.push_back(text);
        lost.push_back(text);
    }
    void mark_suspect(std::vector<SuspectMark> marks) override {
        suspects.insert(suspects.end(), marks.begin(), marks.end());
    }
    std::chrono::steady_clock::time_point now() override {
        ++clock_reads;
        return clock;
    }
    void set_deadline(Deadline kind, std::chrono::milliseconds after) override {
        deadlines[kind] = after;
    }
    void clear_deadline(Deadline kind) override { deadlines.erase(kind); }
    std::shared_ptr<const router::Catalog> catalog() override { return current; }
    void request_catalog_reload() override { ++reloads; }
    std::shared_ptr<const router::ParsedQuery> parse(std::string_view sql) override {
        ++parses;
        return router::parse_query(sql);
    }
    router::Breaker& breaker() override { return the_breaker; }
    router::PreparedTransactions& prepared_transactions() override { return prepared; }
    router::Counters& counters() override { return the_counters; }
    void report_discrepancy(router::PendingDiscrepancy pending) override {
        discrepancies.push_back(std::move(pending));
    }
    void offer_rerun(router::PendingDiscrepancy read) override { reruns.push_back(read.sql); }
    std::string nonce() override { return "0123456789abcdefghij"; }
    void request_verifiers(const std::string& user, std::optional<Side> only) override {
        verifier_requests.push_back(user + (only ? " " + std::string(to_string(*only)) : ""));
    }
    void derive_key(std::uint64_t ticket, const protocol::Secret& password, const std::string& salt,
                    std::uint32_t iterations) override {
        derivations.push_back({ticket, protocol::salt_password(password, salt, iterations)});
    }
    double random() override { return 0.5; }
    void adopted() override { ++adoptions; }
    void log(int, const std::string&) override { ++logs; }

   private:
    Lines& events_;

   public:
    std::shared_ptr<const router::Catalog> current;
    router::Breaker the_breaker{3};
    router::PreparedTransactions prepared;
    router::Counters the_counters;
    std::vector<Side> connects;
    std::set<Side> closed;
    std::vector<Side> cancels;  ///< under way
    bool client_closed = false;
    bool tls = false;
    bool room_for_clients = true;
    bool room_for_user = true;
    bool over = false;
    std::vector<CommitIntent> intents;
    std::vector<TxnId> unanswered;  ///< journal entries not answered yet
    std::vector<std::pair<TxnId, CommitOutcome>> finished;
    Lines lost;
    std::vector<SuspectMark> suspects;
    std::map<Deadline, std::chrono::milliseconds> deadlines;
    std::chrono::steady_clock::time_point clock{std::chrono::hours(1)};
    std::vector<router::PendingDiscrepancy> discrepancies;
    std::vector<std::string> reruns;  ///< their SQL
    Lines verifier_requests;  ///< "user side", not answered yet
    std::vector<std::pair<std::uint64_t, protocol::Secret>> derivations;  ///< not answered yet
    std::uint64_t clock_reads = 0;
    std::uint64_t parses = 0;
    std::uint64_t logs = 0;
    int reloads = 0;
    int adoptions = 0;
};

inline router::Config scene_config() {
    router::Config config;
    config.migration.database = "shop";
    config.source.database = "shop";
    config.target.database = "shop_new";
    return config;
}

inline Directive directive(std::uint64_t epoch, Phase phase, bool hold = false) {
    Directive wanted;
    wanted.epoch = epoch;
    wanted.phase = phase;
    wanted.hold = hold;
    wanted.shadow = true;
    return wanted;
}

class Scene {
   public:
    explicit Scene(Phase phase, bool shadow = false) : Scene(with_shadow(phase, shadow)) {}
    explicit Scene(const Directive& first) : machine(port, config, first) {
        machine.client_connected();
    }

    FakeServer& server(Side side) { return side == Side::source ? source : target; }

    /// Logs in and lets the session read its settings; then forgets what happened.
    void log_in() {
        send(startup());
        if (mirrors(machine.phase())) {
            send(query("SHOW all"));
        }
        forget();
    }
    void forget() {
        client();
        source.log();
        target.log();
        events.clear();
    }

    void send(std::string_view bytes) {
        for (std::size_t at = 0; at < bytes.size();) {
            const std::size_t size = std::min(bytes.size() - at, client_chunk);
            give([&] { machine.client_bytes(bytes.substr(at, size)); });
            settle();
            at += size;
        }
    }
    /// Sends, and returns what the client got.
    Lines ask(std::string_view bytes) {
        send(bytes);
        return client();
    }
    /// What the client got since the last call.
    Lines client() { return take_messages(unread_, backend_text); }
    const std::string& client_total() const { return client_total_; }

    template <class Event>
    void give(Event event) {
        event();
        collect();
    }
    void settle() {
        while (step()) {
        }
    }
    void answer_journal(bool durable) {
        for (const auto txn : std::exchange(port.unanswered, {})) {
            give([&] { machine.journaled(txn, durable); });
        }
        settle();
    }
    void deadline(Deadline kind) {
        port.deadlines.erase(kind);
        give([&] { machine.deadline(kind); });
        settle();
    }
    void direct(const Directive& wanted) {
        give([&] { machine.directive(wanted); });
        settle();
    }
    void lose_server(Side side) {
        give([&] { machine.server_lost(side, "gone"); });
        settle();
    }
    void close_client() {
        give([&] { machine.client_closed(); });
        settle();
    }
    void server_says(Side side, std::string_view bytes) {
        give([&] { machine.server_bytes(side, bytes); });
        settle();
    }
    void resume(Side side) {
        server(side).hangs = false;
        server(side).go_on();
        settle();
    }
    std::uint64_t count(Counter counter) { return port.the_counters.get(counter); }

    Lines events;
    ScriptedPort port{events};
    router::Config config = scene_config();
    FakeServer source{"source", 11, events};
    FakeServer target{"target", 22, events};
    SessionMachine machine;
    bool journal_answers = true;
    bool encrypted = false;  ///< the servers' connections
    bool keys_answer = true;
    bool verifiers_answer = true;
    router::RoleVerifiers role_verifiers;  ///< not readable unless a test sets them
    bool client_reads = true;
    bool target_reads = true;  ///< false: its socket takes nothing
    bool cancels_answer = true;
    bool connects_answer = true;
    std::size_t client_chunk = std::string::npos;
    std::size_t server_chunk = std::string::npos;

   private:
    static Directive with_shadow(Phase phase, bool shadow) {
        Directive wanted = directive(0, phase);
        wanted.shadow = shadow;
        return wanted;
    }

    /// What the driver does after each event.
    void collect() {
        auto& to_client = machine.to_client();
        client_total_ += to_client;
        unread_ += to_client;
        unlogged_ += to_client;
        for (auto& line : take_messages(unlogged_, backend_text)) {
            events.push_back("client< " + line);
        }
        to_client.clear();
        if (client_reads && port.client_closed && !port.over) {
            machine.client_drained();
        }
        for (const Side side : {Side::source, Side::target}) {
            if (side == Side::source || target_reads) {
                server(side).receive(std::exchange(machine.to_server(side), {}));
            }
        }
    }

    bool step() {
        if (connects_answer && !port.connects.empty()) {
            const Side side = port.connects.front();
            port.connects.erase(port.connects.begin());
            port.closed.erase(side);
            server(side).connected();
            give([&] { machine.server_connected(side, encrypted); });
            return true;
        }
        for (const Side side : {Side::source, Side::target}) {
            const std::string bytes = server(side).take();
            for (std::size_t at = 0; at < bytes.size();) {
                const std::size_t size = std::min(bytes.size() - at, server_chunk);
                give([&] { machine.server_bytes(side, std::string_view(bytes).substr(at, size)); });
                at += size;
            }
            if (!bytes.empty()) {
                return true;
            }
        }
        if (cancels_answer && !port.cancels.empty()) {
            const Side side = port.cancels.front();
            port.cancels.erase(port.cancels.begin());
            give([&] { machine.cancel_done(side); });
            return true;
        }
        if (keys_answer && !port.derivations.empty()) {
            const auto [ticket, key] = std::move(port.derivations.front());
            port.derivations.erase(port.derivations.begin());
            give([&, t = ticket, &k = key] { machine.key_derived(t, &k); });
            return true;
        }
        if (verifiers_answer && !port.verifier_requests.empty()) {
            port.verifier_requests.erase(port.verifier_requests.begin());
            give([&] { machine.verifiers(role_verifiers); });
            return true;
        }
        if (journal_answers && !port.unanswered.empty()) {
            const TxnId txn = port.unanswered.front();
            port.unanswered.erase(port.unanswered.begin());
            give([&] { machine.journaled(txn, true); });
            return true;
        }
        return false;
    }

    std::string unread_;
    std::string client_total_;
    std::string unlogged_;
};

}  // namespace banyan::test
