// The whole control plane against two PostgreSQL servers; only the sessions are a fake, which
// adopts directives as told.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "router/migration/control.hpp"
#include "tests/router/state/temp_directory.hpp"
#include "tests/support/postgres_cluster.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;
using boost::json::object;

class FakeFleet : public Fleet {
   public:
    void publish(const Directive& directive) override {
        const std::lock_guard lock(mutex_);
        const auto now = std::chrono::steady_clock::now();
        if (directive.hold && !directives.empty() && !directives.back().hold) {
            held_at_ = now;
        }
        if (!directive.hold && !directives.empty() && directives.back().hold) {
            longest_ = std::chrono::duration_cast<std::chrono::microseconds>(now - held_at_);
        }
        directives.push_back(directive);
    }
    Adoption adoption() override {
        const std::lock_guard lock(mutex_);
        Adoption it;
        it.sessions = 3;
        const Directive& newest = directives.back();
        const bool stuck = newest.hold ? stuck_in_hold.load()
                                       : stuck_in_dual_write && newest.phase == Phase::dual_write;
        it.adopted = stuck ? 2 : 3;
        it.without_mirror = newest.hold && !mirror_ready ? 1 : 0;
        return it;
    }
    std::vector<SessionInfo> sessions() override { return {}; }
    void set_catalog(std::shared_ptr<const Catalog> catalog) override {
        const std::lock_guard lock(mutex_);
        catalog_ = std::move(catalog);
    }
    std::chrono::microseconds longest_hold() override { return longest_; }
    void reset_longest_hold() override { longest_ = 0us; }
    std::vector<std::int32_t> backends(Side) override { return ours; }
    void server_replaced(Side) override { ++replaced; }
    std::vector<TableId> written_since(std::chrono::steady_clock::time_point) override {
        return {0};
    }
    std::uint64_t counter_total(Counter counter) override {
        return counter == Counter::shadow_matched ? matched.load() : 0;
    }

    std::shared_ptr<const Catalog> catalog() {
        const std::lock_guard lock(mutex_);
        return catalog_;
    }
    Directive newest() {
        const std::lock_guard lock(mutex_);
        return directives.back();
    }

    std::atomic<bool> stuck_in_hold{false};
    std::atomic<int> replaced{0};
    std::atomic<bool> mirror_ready{true};
    std::atomic<bool> stuck_in_dual_write{false};
    std::atomic<std::uint64_t> matched{0};
    std::vector<std::int32_t> ours;
    std::vector<Directive> directives;

   private:
    std::mutex mutex_;
    std::shared_ptr<const Catalog> catalog_;
    std::chrono::steady_clock::time_point held_at_;
    std::chrono::microseconds longest_{0};
};

class ControlTest : public ::testing::Test {
   protected:
    static void SetUpTestSuite() {
        const std::vector<std::string> settings{"fsync=off", "max_prepared_transactions=5"};
        source_cluster = std::make_unique<test::PostgresCluster>(settings);
        target_cluster = std::make_unique<test::PostgresCluster>(settings);
    }
    static void TearDownTestSuite() {
        source_cluster.reset();
        target_cluster.reset();
    }
    void SetUp() override {
        static int count = 0;
        database = "control" + std::to_string(++count);
        source_cluster->create_database(database);
        target_cluster->create_database(database);
        on_both("CREATE TABLE t (id bigserial PRIMARY KEY, v text)");
        source_cluster->run("INSERT INTO t (v) SELECT 'row ' || i FROM generate_series(1, 500) i",
                            database);
        config.source = source_cluster->endpoint(database);
        config.target = target_cluster->endpoint(database);
        config.shadow.min_samples = 10;
        open();
    }
    void TearDown() override { close(); }
    void open() {
        db = *StateDb::open(directory.path(), StateDb::Durability::process);
        ledger = std::make_unique<Ledger>(*db);
        breaker = std::make_unique<Breaker>(3);
        fleet = std::make_unique<FakeFleet>();
        control = std::make_unique<Control>(config, *db, *ledger, *breaker);
        ASSERT_TRUE(control->start(*fleet).has_value());
    }
    void close() {
        if (control) {
            control->stop();
        }
        control.reset();
        fleet.reset();
        ledger.reset();
        breaker.reset();
        db.reset();
    }
    void on_both(const std::string& sql) {
        source_cluster->run(sql, database);
        target_cluster->run(sql, database);
    }
    static bool eventually(const std::function<bool()>& condition) {
        const auto deadline = std::chrono::steady_clock::now() + 60s;
        while (!condition()) {
            if (std::chrono::steady_clock::now() > deadline) {
                return false;
            }
            std::this_thread::sleep_for(5ms);
        }
        return true;
    }
    TransitionRequest request(Phase from, Phase to) {
        TransitionRequest it;
        it.from = from;
        it.to = to;
        it.reason = "test";
        return it;
    }
    /// Creates it and waits for its end.
    object walk(const TransitionRequest& wanted) {
        auto created = control->create_transition(wanted, {"ann", "127.0.0.1"});
        if (!created) {
            const Refusal refusal = created.error();
            return {{"state", refusal.type}, {"error", refusal.title}, {"extra", refusal.extra}};
        }
        const std::string id(created->at("id").as_string());
        object last;
        EXPECT_TRUE(eventually([&] {
            last = *control->transition(id);
            return !last.at("finished_unix_ms").is_null();
        })) << boost::json::serialize(last);
        // Its thread lets go of it a moment after the final word.
        EXPECT_TRUE(eventually([&] { return control->status().at("transition").is_null(); }));
        return last;
    }
    void expect_done(const TransitionRequest& wanted) {
        const object end = walk(wanted);
        ASSERT_EQ(end.at("state").as_string(), "done") << boost::json::serialize(end);
        ASSERT_EQ(phase(), to_string(wanted.to));
    }
    std::string phase() { return std::string(control->status().at("phase").as_string()); }
    /// As far as DUAL_READ, ready for the flip.
    void to_dual_read() {
        ASSERT_NO_FATAL_FAILURE(expect_done(request(Phase::initial, Phase::dual_write)));
        ASSERT_TRUE(eventually([&] {
            return control->backfill().at("state").as_string() == "done";
        })) << boost::json::serialize(control->backfill());
        ASSERT_TRUE(eventually([&] {
            return ledger->suspects().empty() &&
                   control->status().at("verification").at("tables_equal") == 1;
        })) << boost::json::serialize(control->tables());
        ASSERT_NO_FATAL_FAILURE(expect_done(request(Phase::dual_write, Phase::dual_read)));
        fleet->matched += 10;
    }

    static inline std::unique_ptr<test::PostgresCluster> source_cluster;
    static inline std::unique_ptr<test::PostgresCluster> target_cluster;
    std::string database;
    test::TempDirectory directory;
    Config config;
    std::unique_ptr<StateDb> db;
    std::unique_ptr<Ledger> ledger;
    std::unique_ptr<Breaker> breaker;
    std::unique_ptr<FakeFleet> fleet;
    std::unique_ptr<Control> control;
};

TEST_F(ControlTest, LeadsAMigrationThroughAllPhasesAndBackOnce) {
    ASSERT_NO_FATAL_FAILURE(to_dual_read());
    EXPECT_EQ(target_cluster->run("SELECT count(*) FROM t", database).number(0, 0), 500);
    EXPECT_TRUE(fleet->newest().shadow);

    const object flip = walk(request(Phase::dual_read, Phase::switchover));
    ASSERT_EQ(flip.at("state").as_string(), "done") << boost::json::serialize(flip);
    EXPECT_FALSE(flip.at("pause_microseconds").is_null());
    EXPECT_EQ(control->status().at("primary").as_string(), "target");
    EXPECT_EQ(fleet->catalog()->side, Side::target);
    EXPECT_FALSE(fleet->newest().hold);
    // The target's sequence is past the source's.
    EXPECT_GT(target_cluster->run("SELECT nextval('t_id_seq')", database).number(0, 0), 500);

    ASSERT_NO_FATAL_FAILURE(expect_done(request(Phase::switchover, Phase::dual_read)));
    EXPECT_EQ(fleet->catalog()->side, Side::source);
    fleet->matched += 10;
    ASSERT_NO_FATAL_FAILURE(expect_done(request(Phase::dual_read, Phase::switchover)));
    fleet->matched += 10;
    ASSERT_NO_FATAL_FAILURE(expect_done(request(Phase::switchover, Phase::complete)));
    EXPECT_EQ(fleet->catalog(), nullptr);
    EXPECT_EQ(walk(request(Phase::complete, Phase::switchover)).at("state").as_string(),
              "illegal-step");
    EXPECT_GE(control->audit(100, std::nullopt).size(), 12U);
}

TEST_F(ControlTest, HoldsAtMostOncePerFlipAndNeverWhenNothingFlips) {
    ASSERT_NO_FATAL_FAILURE(to_dual_read());
    for (const Directive& directive : fleet->directives) {
        EXPECT_FALSE(directive.hold);
    }
    ASSERT_NO_FATAL_FAILURE(expect_done(request(Phase::dual_read, Phase::switchover)));
    std::uint64_t epoch = 0;
    int holds = 0;
    for (const Directive& directive : fleet->directives) {
        EXPECT_GT(directive.epoch, epoch);
        epoch = directive.epoch;
        holds += directive.hold ? 1 : 0;
        EXPECT_FALSE(directive.hold && directive.phase != Phase::dual_read);
    }
    EXPECT_EQ(holds, 1);
}

TEST_F(ControlTest, RefusesWhatIsNotAllowedNow) {
    EXPECT_EQ(walk(request(Phase::dual_write, Phase::dual_read)).at("state").as_string(),
              "stale-from");
    EXPECT_EQ(walk(request(Phase::initial, Phase::dual_read)).at("state").as_string(),
              "illegal-step");
    auto blank = request(Phase::initial, Phase::dual_write);
    blank.reason = " \n";
    EXPECT_EQ(walk(blank).at("state").as_string(), "reason-required");
    auto dry = request(Phase::initial, Phase::dual_write);
    dry.dry_run = true;
    const auto plan = control->create_transition(dry, {"ann", ""});
    ASSERT_TRUE(plan.has_value());
    EXPECT_TRUE(plan->at("would_pass").as_bool()) << boost::json::serialize(*plan);
    EXPECT_TRUE(control->transitions().empty());
    EXPECT_EQ(phase(), "INITIAL");
}

TEST_F(ControlTest, ClosedGatesRejectAndSayWhy) {
    source_cluster->run("CREATE TABLE only_here (id int PRIMARY KEY)", database);
    const object end = walk(request(Phase::initial, Phase::dual_write));
    EXPECT_EQ(end.at("state").as_string(), "gates-failed");
    const auto stored = control->transitions();
    ASSERT_EQ(stored.size(), 1U);
    EXPECT_EQ(stored.at(0).at("state").as_string(), "rejected");
    EXPECT_NE(boost::json::serialize(stored.at(0)).find("only_here"), std::string::npos);
    EXPECT_EQ(phase(), "INITIAL");
}

TEST_F(ControlTest, ASessionThatDoesNotFollowTakesMirroringBack) {
    fleet->stuck_in_dual_write = true;
    auto wanted = request(Phase::initial, Phase::dual_write);
    wanted.deadline = 2000ms;
    const object end = walk(wanted);
    EXPECT_EQ(end.at("state").as_string(), "timed_out") << boost::json::serialize(end);
    EXPECT_EQ(phase(), "INITIAL");
    EXPECT_EQ(fleet->newest().phase, Phase::initial);
    EXPECT_EQ(fleet->catalog(), nullptr);
    close();
    open();
    EXPECT_EQ(phase(), "INITIAL");
}

TEST_F(ControlTest, AFlipThatCannotBeginIsAsIfNeverTried) {
    ASSERT_NO_FATAL_FAILURE(to_dual_read());
    auto wanted = request(Phase::dual_read, Phase::switchover);
    wanted.deadline = 2000ms;
    const auto expect_untouched = [&](const std::string& state) {
        const object end = walk(wanted);
        EXPECT_EQ(end.at("state").as_string(), state) << boost::json::serialize(end);
        EXPECT_EQ(phase(), "DUAL_READ");
        EXPECT_FALSE(fleet->newest().hold);
        EXPECT_EQ(fleet->newest().phase, Phase::dual_read);
        EXPECT_EQ(fleet->catalog()->side, Side::source);
    };
    fleet->stuck_in_hold = true;
    expect_untouched("timed_out");
    fleet->stuck_in_hold = false;
    fleet->mirror_ready = false;
    expect_untouched("timed_out");
    fleet->mirror_ready = true;
    source_cluster->run(
        "BEGIN; INSERT INTO t VALUES (9000, 'x'); PREPARE TRANSACTION 'p_" + database + "'",
        database);
    expect_untouched("gates-failed");
    ASSERT_TRUE(source_cluster->connect(database)
                    .exec("ROLLBACK PREPARED 'p_" + database + "'")
                    .has_value());
    wanted.deadline.reset();
    ASSERT_NO_FATAL_FAILURE(expect_done(wanted));
}

TEST_F(ControlTest, AWriterThatBypassesBanyanDuringTheHoldStopsTheFlip) {
    ASSERT_NO_FATAL_FAILURE(to_dual_read());
    fleet->stuck_in_hold = true;
    auto created =
        control->create_transition(request(Phase::dual_read, Phase::switchover), {"ann", ""});
    ASSERT_TRUE(created.has_value());
    const std::string id(created->at("id").as_string());
    ASSERT_TRUE(eventually([&] { return fleet->newest().hold; }));
    auto stranger = source_cluster->connect(database);
    ASSERT_TRUE(
        stranger
            .exec("SET application_name = 'psql'; BEGIN; INSERT INTO public.t VALUES (9001, 'x')")
            .has_value());
    fleet->stuck_in_hold = false;
    ASSERT_TRUE(eventually([&] { return control->status().at("transition").is_null(); }));
    const object end = *control->transition(id);
    EXPECT_EQ(end.at("state").as_string(), "failed");
    EXPECT_NE(boost::json::serialize(end).find("process " + std::to_string(stranger.process_id())),
              std::string::npos);
    EXPECT_EQ(phase(), "DUAL_READ");
    EXPECT_FALSE(fleet->newest().hold);
}

// The mirror's server stands still (as in SIGSTOP): a query on it never returns by itself.
TEST_F(ControlTest, AMirrorThatHangsInTheHoldCannotKeepTheSessionsHeld) {
    ASSERT_NO_FATAL_FAILURE(to_dual_read());
    fleet->stuck_in_hold = true;
    auto wanted = request(Phase::dual_read, Phase::switchover);
    wanted.deadline = 3000ms;
    auto created = control->create_transition(wanted, {"ann", ""});
    ASSERT_TRUE(created.has_value());
    ASSERT_TRUE(eventually([&] { return fleet->newest().hold; }));
    auto blocker = target_cluster->connect(database);
    ASSERT_TRUE(
        blocker.exec("BEGIN; LOCK TABLE banyan.heartbeat IN ACCESS EXCLUSIVE MODE").has_value());
    fleet->stuck_in_hold = false;
    ASSERT_TRUE(eventually([&] { return control->status().at("transition").is_null(); }));
    EXPECT_EQ(
        control->transition(std::string(created->at("id").as_string()))->at("state").as_string(),
        "timed_out");
    EXPECT_FALSE(fleet->newest().hold);
    EXPECT_EQ(phase(), "DUAL_READ");
}

TEST_F(ControlTest, ACancelReleasesHeldSessions) {
    ASSERT_NO_FATAL_FAILURE(to_dual_read());
    fleet->stuck_in_hold = true;
    auto created =
        control->create_transition(request(Phase::dual_read, Phase::switchover), {"ann", ""});
    ASSERT_TRUE(created.has_value());
    const std::string id(created->at("id").as_string());
    ASSERT_TRUE(eventually([&] { return fleet->newest().hold; }));
    auto second =
        control->create_transition(request(Phase::dual_read, Phase::dual_write), {"bob", ""});
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().type, "conflict");
    ASSERT_TRUE(control->cancel_transition(id, {"ann", ""}).has_value());
    ASSERT_TRUE(eventually([&] {
        return control->transition(id)->at("state").as_string() == "aborted";
    })) << boost::json::serialize(*control->transition(id));
    EXPECT_FALSE(fleet->newest().hold);
    EXPECT_EQ(phase(), "DUAL_READ");
    EXPECT_EQ(control->cancel_transition(id, {"ann", ""}).error().type, "not-cancellable");
    EXPECT_EQ(control->cancel_transition("t-999999", {"ann", ""}).error().type, "not-found");
}

TEST_F(ControlTest, ARestartTakesUpThePersistedPhaseAndCallsTheInterruptedTransitionFailed) {
    ASSERT_NO_FATAL_FAILURE(to_dual_read());
    fleet->stuck_in_hold = true;
    auto created =
        control->create_transition(request(Phase::dual_read, Phase::switchover), {"ann", ""});
    ASSERT_TRUE(created.has_value());
    const std::string id(created->at("id").as_string());
    ASSERT_TRUE(eventually([&] { return fleet->newest().hold; }));
    close();
    open();
    EXPECT_EQ(control->transition(id)->at("state").as_string(), "failed");
    EXPECT_EQ(control->transition(id)->at("error").as_string(), "interrupted");
    EXPECT_EQ(fleet->newest().phase, Phase::dual_read);
    EXPECT_FALSE(fleet->newest().hold);
    ASSERT_TRUE(eventually([&] { return fleet->catalog() != nullptr; }));
    ASSERT_TRUE(eventually([&] { return control->status().at("repair").at("running").as_bool(); }));
    EXPECT_EQ(control->backfill().at("state").as_string(), "done");
    fleet->matched += 10;
    ASSERT_NO_FATAL_FAILURE(expect_done(request(Phase::dual_read, Phase::switchover)));
}

TEST_F(ControlTest, GoingBackToInitialForgetsEverythingAndMirroringCanBeginAnew) {
    ASSERT_NO_FATAL_FAILURE(to_dual_read());
    ASSERT_NO_FATAL_FAILURE(expect_done(request(Phase::dual_read, Phase::dual_write)));
    ASSERT_NO_FATAL_FAILURE(expect_done(request(Phase::dual_write, Phase::initial)));
    EXPECT_EQ(fleet->catalog(), nullptr);
    EXPECT_EQ(control->backfill().at("state").as_string(), "idle");
    // Unmirrored writes: a row the backfill would take for copied, one that is gone, one that is
    // new.
    source_cluster->run(
        "UPDATE t SET v = 'changed' WHERE id = 1; DELETE FROM t WHERE id = 2; "
        "INSERT INTO t (v) VALUES ('new')",
        database);
    ASSERT_NO_FATAL_FAILURE(to_dual_read());
    const std::string digest = "SELECT count(*), md5(string_agg(id || v, ',' ORDER BY id)) FROM t";
    ASSERT_TRUE(eventually([&] { return ledger->dirty_count() == 0; }));
    EXPECT_EQ(source_cluster->run(digest, database).text(0, 1),
              target_cluster->run(digest, database).text(0, 1));
}

TEST_F(ControlTest, AShadowMismatchIsConfirmedStoredAndHoldsTheGateShut) {
    ASSERT_NO_FATAL_FAILURE(to_dual_read());
    target_cluster->run("UPDATE t SET v = 'wrong' WHERE id = 7", database);
    PendingDiscrepancy pending;
    pending.sql = "SELECT id, v FROM public.t WHERE id = $1";
    pending.parameters = {Param::text("7")};
    pending.parameter_types = {20};
    pending.user = "postgres";
    pending.settings = {{"search_path", "public"}, {"server_version", "15"}, {"app.tenant", "x"}};
    pending.tables = {"public.t"};
    pending.kind = "rows";
    control->report_discrepancy(pending);
    pending.parameters = {Param::text("8")};
    control->report_discrepancy(pending);  // this one is the same on both sides
    ASSERT_TRUE(eventually([&] { return control->discrepancies().at("pending") == 0; }));
    const object all = control->discrepancies();
    EXPECT_EQ(all.at("confirmed"), 1) << boost::json::serialize(control->shadow());
    EXPECT_EQ(all.at("raced"), 1) << boost::json::serialize(control->shadow());
    ASSERT_EQ(all.at("groups").as_array().size(), 1U);
    const std::string fingerprint(all.at("groups").at(0).at("fingerprint").as_string());
    const std::string group = boost::json::serialize(*control->discrepancy(fingerprint));
    EXPECT_EQ(group.find("wrong"), std::string::npos) << group;
    EXPECT_NE(group.find("<text 5 "), std::string::npos) << group;
    EXPECT_EQ(walk(request(Phase::dual_read, Phase::switchover)).at("state").as_string(),
              "gates-failed");
    ASSERT_TRUE(control->acknowledge_discrepancy(fingerprint, "known", std::nullopt, {"ann", ""}).has_value());
    EXPECT_EQ(control->discrepancies().at("unacknowledged"), 0);

    const auto created = control->create_verification({"public.t"}, true, {"ann", ""});
    ASSERT_TRUE(created.has_value());
    const std::string id(created->at("id").as_string());
    ASSERT_TRUE(
        eventually([&] { return !control->verification(id)->at("finished_unix_ms").is_null(); }));
    EXPECT_EQ(control->verification(id)->at("state").as_string(), "different");
    ASSERT_TRUE(eventually([&] {
        return target_cluster->run("SELECT v FROM t WHERE id = 7", database).text(0, 0) == "row 7";
    }));
}

TEST_F(ControlTest, TheGatesOfTheNextStepAreSampledWhileWritesAreMirrored) {
    /// The states of each gate: "gate" -> "pass" -> 1.
    const auto gates = [&] {
        std::map<std::string, std::map<std::string, double>> found;
        for (const auto& sample : control->samples()) {
            if (sample.name == "gate_state") {
                const std::map<std::string, std::string> labels(sample.labels.begin(),
                                                                sample.labels.end());
                EXPECT_EQ(labels.at("to"), "DUAL_READ");
                found[labels.at("gate")][labels.at("state")] = sample.value;
            }
        }
        return found;
    };
    std::this_thread::sleep_for(1500ms);
    EXPECT_TRUE(gates().empty());
    ASSERT_NO_FATAL_FAILURE(expect_done(request(Phase::initial, Phase::dual_write)));
    ASSERT_TRUE(eventually([&] { return !gates().empty(); }));
    const auto asked = control->gates(Phase::dual_read);
    const auto sampled = gates();
    EXPECT_EQ(sampled.size(), asked.size());
    for (const auto& [name, states] : sampled) {
        ASSERT_EQ(states.size(), 3U) << name;
        EXPECT_EQ(states.at("pass") + states.at("fail") + states.at("inconclusive"), 1) << name;
    }
}

TEST_F(ControlTest, EveryAnswerHasTheShapeThatTheReadmePromises) {
    ASSERT_NO_FATAL_FAILURE(to_dual_read());
    const object status = control->status();
    for (const char* key : {"version", "phase", "primary", "mirror", "epoch", "hold", "transition",
                            "sessions", "source", "target", "breaker", "catalog", "journal",
                            "repair", "backfill", "verification", "shadow", "last_flip"}) {
        EXPECT_TRUE(status.contains(key)) << key;
    }
    ASSERT_EQ(control->tables().size(), 1U);
    EXPECT_TRUE(control->table("public.t")->contains("column_list"));
    EXPECT_FALSE(control->table("public.none").has_value());
    EXPECT_FALSE(control->gates(Phase::switchover).empty());
    EXPECT_TRUE(control->gates(Phase::initial).empty());
    EXPECT_FALSE(control->samples().empty());
    std::string why;
    EXPECT_TRUE(control->primary_ready(why)) << why;
    EXPECT_EQ(control->set_shadow(2.0, {"ann", ""}).error().type, "bad-request");
    ASSERT_TRUE(control->set_shadow(0.25, {"ann", ""}).has_value());
    EXPECT_EQ(fleet->newest().shadow_share, 0.25);
    EXPECT_FALSE(control->transition("t-00000x").has_value());
}

}  // namespace
}  // namespace banyan::router
