// A ControlApi that remembers what it was asked and answers what the test laid out.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <type_traits>

#include "admin/control_api.hpp"
#include "router/metrics/counter_source.hpp"

namespace banyan::admin {

class FakeControl : public ControlApi {
   public:
    std::mutex mutex;

    /// Reads and writes a member while a server may be using it.
    template <class T>
    void set(T FakeControl::*member, std::type_identity_t<T> value) {
        const std::lock_guard lock(mutex);
        this->*member = std::move(value);
    }
    template <class T>
    T get(T FakeControl::*member) {
        const std::lock_guard lock(mutex);
        return this->*member;
    }

    // What to answer.
    router::Phase current = router::Phase::initial;
    std::optional<router::Refusal> refuse;  ///< every change
    std::string gate_verdict = "pass";
    /// The states that transition() goes through, one for each call; the last one stays.
    std::vector<std::string> states = {"done"};
    std::string verification_state = "equal";
    bool ready = true;
    std::string application = "psql";
    bool throws = false;

    // What was asked: "change by name@address: what".
    std::vector<std::string> changes;
    router::TransitionRequest last_request;
    std::size_t last_limit = 0;
    std::optional<std::int64_t> last_before;

    // While `held`, status() does not return.
    std::condition_variable released;
    bool held = false;

    std::vector<std::string> changes_now() { return get(&FakeControl::changes); }

    router::Phase phase() override {
        const std::lock_guard lock(mutex);
        return current;
    }
    Object status() override {
        std::unique_lock lock(mutex);
        released.wait(lock, [this] { return !held; });
        if (throws) {
            throw std::runtime_error("boom");
        }
        return {{"phase", router::to_string(current)},
                {"primary", "source"},
                {"mirror", nullptr},
                {"source", {{"reachable", true}, {"error", ""}}},
                {"target", {{"reachable", false}, {"error", "refused"}}},
                {"transition", {{"id", "t-000007"}, {"state", "draining"}}}};
    }
    Array gates(router::Phase to) override {
        const std::lock_guard lock(mutex);
        return {{{"name", "target_reachable"},
                 {"verdict", gate_verdict},
                 {"value", router::to_string(to)},
                 {"threshold", "yes"},
                 {"samples", nullptr},
                 {"minimum_samples", nullptr},
                 {"explanation", "because"}}};
    }
    Answer<Object> create_transition(const router::TransitionRequest& request,
                                     const Actor& actor) override {
        const std::lock_guard lock(mutex);
        last_request = request;
        if (refuse) {
            return *refuse;
        }
        if (request.dry_run) {
            return Object{{"dry_run", true},
                          {"would_pass", gate_verdict == "pass"},
                          {"from", router::to_string(request.from)},
                          {"to", router::to_string(request.to)},
                          {"steps", Array{{{"name", "drain"}, {"what", "wait"}}}}};
        }
        note(actor, "transition " + std::string(router::to_string(request.from)) + " " +
                        std::string(router::to_string(request.to)) + " " + request.reason);
        return transition_object("checking", 1);
    }
    Array transitions() override { return {transition_object("done", 3)}; }
    std::optional<Object> transition(const std::string& id) override {
        const std::lock_guard lock(mutex);
        if (id != "t-000007") {
            return std::nullopt;
        }
        const std::string state = states.front();
        if (states.size() > 1) {
            states.erase(states.begin());
        }
        return transition_object(state, ++steps_);
    }
    Answer<Object> cancel_transition(const std::string& id, const Actor& actor) override {
        return change(actor, "cancel " + id, {{"id", id}, {"state", "draining"}});
    }
    Array tables() override { return {{{"name", "public.t"}, {"captured", true}}}; }
    std::optional<Object> table(const std::string& name) override {
        return name == "public.t" || name == "public.a/b"
                   ? std::optional<Object>(Object{{"name", name}})
                   : std::nullopt;
    }
    Object capture() override { return {{"enabled", false}}; }
    Answer<Object> install_capture(const Actor& actor) override {
        return change(actor, "capture install", {{"enabled", true}});
    }
    Answer<Object> remove_capture(const Actor& actor) override {
        return change(actor, "capture remove", {{"enabled", false}});
    }
    Object backfill() override { return {{"state", "idle"}, {"tables", Array()}}; }
    Answer<Object> backfill_action(const std::string& action, const Actor& actor) override {
        return change(actor, "backfill " + action, {{"state", action}});
    }
    Array verifications() override { return {}; }
    std::optional<Object> verification(const std::string& id) override {
        const std::lock_guard lock(mutex);
        return id == "v-1"
                   ? std::optional<Object>(Object{{"id", id}, {"state", verification_state}})
                   : std::nullopt;
    }
    Answer<Object> create_verification(const std::vector<std::string>& tables, bool repair,
                                       const Actor& actor) override {
        std::string what = repair ? "verify+repair" : "verify";
        for (const auto& table : tables) {
            what += " " + table;
        }
        return change(actor, what, {{"id", "v-1"}, {"state", "running"}});
    }
    Answer<Object> stop_verification(const std::string& id, const Actor& actor) override {
        return change(actor, "stop " + id, {{"id", id}, {"state", "stopped"}});
    }
    Object discrepancies() override { return {{"groups", Array()}, {"unacknowledged", 0}}; }
    std::optional<Object> discrepancy(const std::string& fingerprint) override {
        return fingerprint == "f1" ? std::optional<Object>(Object{{"fingerprint", "f1"}})
                                   : std::nullopt;
    }
    Answer<Object> acknowledge_discrepancy(const std::string& fingerprint, const std::string& text,
                                           std::optional<std::int64_t>,
                                           const Actor& actor) override {
        return change(actor, "acknowledge " + fingerprint + " " + text, {{"acknowledged", true}});
    }
    Object shadow() override { return {{"share", 1.0}}; }
    Object shadow_times() override { return {{"statements", boost::json::array()}}; }
    Answer<Object> set_shadow(std::optional<double> share, const Actor& actor) override {
        return change(actor, "share " + (share ? std::to_string(*share) : "unchanged"),
                      {{"share", share.value_or(1)}});
    }
    Object journal() override { return {{"dirty", 0}}; }
    Array sessions() override {
        return {{{"id", 1}, {"application", get(&FakeControl::application)}}};
    }
    Array audit(std::size_t limit, std::optional<std::int64_t> before) override {
        const std::lock_guard lock(mutex);
        last_limit = limit;
        last_before = before;
        return {};
    }
    Answer<Object> reload(const Actor& actor) override {
        return change(actor, "reload",
                      {{"applied", {"log.level"}},
                       {"restart", {{{"key", "listen.port"}, {"keeps", "6432"}}}}});
    }
    Object preflight() override { return {{"findings", Array()}, {"blocks", 0}, {"warnings", 0}}; }
    Object configuration() override { return {{"file", "banyan.toml"}, {"keys", Object()}}; }
    Object check_audit() override {
        return {{"entries", 1}, {"intact", true}, {"first_broken", nullptr}};
    }
    std::vector<router::Control::Sample> samples() override {
        return {{"phase", {{"phase", "INITIAL"}}, 1, false, "The phase as a state set."},
                {"phase", {{"phase", "COMPLETE"}}, 0, false, "The phase as a state set."},
                {"backfill_rows_total", {}, 42, true, "Rows copied."}};
    }
    bool primary_ready(std::string& why) override {
        why = ready ? "" : "connection refused";
        return ready;
    }

   private:
    static Object transition_object(const std::string& state, std::size_t steps) {
        Array log;
        for (std::size_t i = 1; i <= steps; ++i) {
            log.push_back(
                {{"at_unix_ms", 1000}, {"step", "step" + std::to_string(i)}, {"message", "m"}});
        }
        return {{"id", "t-000007"}, {"from", "INITIAL"}, {"to", "DUAL_WRITE"}, {"state", state},
                {"error", ""},      {"waiting_for", ""}, {"log", log}};
    }
    void note(const Actor& actor, const std::string& what) {
        changes.push_back(actor.name + "@" + actor.address + ": " + what);
    }
    Answer<Object> change(const Actor& actor, const std::string& what, Object answer) {
        const std::lock_guard lock(mutex);
        if (refuse) {
            return *refuse;
        }
        note(actor, what);
        return answer;
    }

    std::size_t steps_ = 0;
};

struct FakeCounters : router::CounterSource {
    router::Counters first;
    router::Counters second;
    router::Timings timed;
    std::vector<router::Sample> said;
    std::vector<const router::Counters*> counters() override { return {&first, &second}; }
    std::vector<const router::Timings*> timings() override { return {&timed, &timed}; }
    std::vector<router::Sample> samples() override { return said; }
};

}  // namespace banyan::admin
