// Backfill, verification and repair of mapped tables, in both directions, on two real servers.
#include <gmock/gmock.h>

#include "tests/router/sync/two_sides.hpp"

namespace banyan::test {
namespace {

using testing::ElementsAre;

RowExpression plain(const std::string& name) { return {quote_identifier(name), {name}, true}; }
RowExpression computed(const std::string& sql, std::vector<std::string> columns) {
    return {"(" + sql + ")", std::move(columns), false};
}

class MappedSync : public TwoSides {
   protected:
    void SetUp() override {
        TwoSides::SetUp();
        on_source(
            "CREATE TABLE t (id bigint PRIMARY KEY, v text, kind text NOT NULL DEFAULT 'x', own int DEFAULT 7);"
            "CREATE TABLE p (id bigint PRIMARY KEY, a text NOT NULL, b text NOT NULL);"
            "INSERT INTO t SELECT g, 'V' || g, CASE WHEN g % 5 = 0 THEN 'gone' ELSE 'here' END FROM generate_series(1, 1000) g;"
            "INSERT INTO p SELECT g, 'a' || g, 'b' || g FROM generate_series(1, 500) g");
        on_target("CREATE TABLE u (key bigint PRIMARY KEY, low text, kind text NOT NULL);"
                  "CREATE TABLE pa (id bigint PRIMARY KEY, a text NOT NULL);"
                  "CREATE TABLE pb (n bigint PRIMARY KEY, b text NOT NULL)");
        MappingRule t;
        t.source = {"public", "t"};
        t.target = {"public", "u"};
        t.columns = {{"key", plain("id")}, {"low", computed("lower(v)", {"v"})}};
        t.where = computed("kind <> 'gone'", {"kind"});
        t.reverse = {{"v", computed("upper(low)", {"low"})}};
        t.ignore = {"own"};
        MappingRule pa;
        pa.source = {"public", "p"};
        pa.target = {"public", "pa"};
        MappingRule pb = pa;
        pb.target = {"public", "pb"};
        pb.columns = {{"n", plain("id")}};
        options_.mappings = {t, pa, pb};
        primary_is(Side::source);
    }
    void primary_is(Side side) {
        auto source = source_cluster->connect(database_);
        auto target = target_cluster->connect(database_);
        phase_ = side == Side::source ? Phase::dual_write : Phase::switchover;
        catalog_ = must(side == Side::source
                            ? load_catalog(source, target, side, *db_, options_, 1)
                            : load_catalog(target, source, side, *db_, options_, 2));
        ASSERT_TRUE(catalog_->mapping_problems.empty()) << catalog_->mapping_problems.front();
    }
    std::shared_ptr<const Table> pair(const std::string& name) {
        for (const auto& table : catalog_->tables()) {
            if (table->display_name() == name) {
                return table;
            }
        }
        throw std::runtime_error("no pair " + name);
    }
    TableVerification verify_pair(const std::string& name) {
        const std::atomic<bool> cancel{false};
        const VerifyContext context{config_, *ledger_, [this] { return phase_; },
                                    [this] { return catalog_; }};
        return verify_table(context, *pair(name), false, nullptr, cancel);
    }
    void repair_all(const std::string& name, const std::vector<std::int64_t>& ids) {
        std::vector<RowKey> keys;
        for (const std::int64_t id : ids) {
            keys.push_back(bigint_key(pair(name)->id, id));
        }
        ledger_->mark_dirty(keys, "test");
        repair_ = std::make_unique<Repair>(RepairContext{config_, *ledger_, breaker_,
                                                         [this] { return phase_; },
                                                         [this] { return catalog_; }});
        repair_->start();
    }
    static std::string lines(const Rows& rows) { return rows.text(0, 0); }
    void expect_alike() {
        const std::string agg = "SELECT string_agg(r::text, ';' ORDER BY r::text) FROM ";
        EXPECT_EQ(lines(on_source(agg + "(SELECT id, lower(v), kind FROM t WHERE NOT kind = 'gone') r")),
                  lines(on_target(agg + "(SELECT key, low, kind FROM u) r")));
        EXPECT_EQ(lines(on_source(agg + "(SELECT id, a FROM p) r")), lines(on_target(agg + "(SELECT id, a FROM pa) r")));
        EXPECT_EQ(lines(on_source(agg + "(SELECT id, b FROM p) r")), lines(on_target(agg + "(SELECT n, b FROM pb) r")));
    }

    CatalogOptions options_;
    Phase phase_ = Phase::dual_write;
    const std::string u_ = "public.t->public.u";
    const std::string pa_ = "public.p->public.pa";
    const std::string pb_ = "public.p->public.pb";
};

TEST_F(MappedSync, BackfillCopiesWhatTheRulesMakeOfTheRows) {
    backfill_all();
    expect_alike();
    EXPECT_EQ(on_target("SELECT count(*) FROM u").number(0, 0), 800);
    for (const auto& name : {u_, pa_, pb_}) {
        const auto result = verify_pair(name);
        EXPECT_EQ(result.state, "equal") << name << result.error;
        EXPECT_EQ(result.rows_compared, name == u_ ? 800U : 500U);
    }
}

TEST_F(MappedSync, VerificationSeesTheMappedRowsOnly) {
    backfill_all();
    on_target("UPDATE u SET low = 'V1' WHERE key = 1; DELETE FROM u WHERE key = 2;"
              "INSERT INTO u VALUES (5, 'v5', 'gone'), (5000, 'x', 'here'); UPDATE pb SET b = 'other' WHERE n = 3");
    on_source("UPDATE t SET own = 8; UPDATE t SET v = 'v7' WHERE id = 7");  // neither shows on the target
    const auto result = verify_pair(u_);
    EXPECT_EQ(result.state, "different");
    EXPECT_EQ(result.missing, 1U);
    EXPECT_EQ(result.extra, 2U);
    EXPECT_EQ(result.different, 1U);
    for (const Difference& it : result.sample) {
        if (it.kind == "different") {
            EXPECT_EQ(it.key, "id=1");
            EXPECT_THAT(it.columns, ElementsAre("low"));
        }
    }
    EXPECT_EQ(verify_pair(pa_).state, "equal");
    EXPECT_EQ(verify_pair(pb_).different, 1U);
}

TEST_F(MappedSync, RepairBringsEachTableOfTheMirrorToWhatItsRuleSays) {
    backfill_all();
    on_target("UPDATE u SET low = 'V1' WHERE key = 1; DELETE FROM u WHERE key = 2;"
              "INSERT INTO u VALUES (5, 'v5', 'gone'), (5000, 'x', 'here'); UPDATE pb SET b = 'other' WHERE n = 3;"
              "DELETE FROM pa WHERE id = 4");
    ledger_->mark_dirty({bigint_key(pair(pb_)->id, 3), bigint_key(pair(pa_)->id, 4)}, "test");
    repair_all(u_, {1, 2, 5, 10, 5000});
    EXPECT_TRUE(eventually([&] { return ledger_->dirty_count() == 0; })) << repair_->last_error();
    expect_alike();
}

TEST_F(MappedSync, TurnedRoundTheSourceIsWrittenAndWhatTheFilterLeavesOutIsNot) {
    backfill_all();
    const std::string outside = "SELECT string_agg(t::text, ';' ORDER BY id) FROM t WHERE kind = 'gone'";
    const std::string before = lines(on_source(outside));
    primary_is(Side::target);
    EXPECT_EQ(verify_pair(u_).state, "equal");
    on_target("UPDATE u SET low = 'changed' WHERE key = 1; DELETE FROM u WHERE key = 2; INSERT INTO u VALUES (5001, 'new', 'here')");
    EXPECT_EQ(verify_pair(u_).state, "different");
    repair_all(u_, {1, 2, 5, 5001});  // of 5 the target knows nothing, and it stays on the source
    EXPECT_TRUE(eventually([&] { return ledger_->dirty_count() == 0; })) << repair_->last_error();
    EXPECT_EQ(lines(on_source("SELECT string_agg(t::text, ';' ORDER BY id) FROM t WHERE id IN (1, 2, 5001)")),
              "(1,CHANGED,here,7);(5001,NEW,here,7)");
    EXPECT_EQ(lines(on_source(outside)), before);
    EXPECT_EQ(verify_pair(u_).state, "equal");
}

TEST_F(MappedSync, ARowOfTheSourceThatTheFilterLeavesOutIsNotWrittenOver) {
    backfill_all();
    primary_is(Side::target);
    on_target("INSERT INTO u VALUES (5, 'mine', 'here')");
    repair_all(u_, {5});
    EXPECT_TRUE(eventually([&] { return repair_->last_error().find("filter leaves out") != std::string::npos; }));
    EXPECT_EQ(ledger_->dirty_count(), 1U);
    EXPECT_EQ(lines(on_source("SELECT t::text FROM t WHERE id = 5")), "(5,V5,gone,7)");
}

TEST_F(MappedSync, TurnedRoundASplitIsPutTogetherAgain) {
    backfill_all();
    primary_is(Side::target);
    EXPECT_EQ(verify_pair(pa_).state, "equal");
    on_target("UPDATE pa SET a = 'new a' WHERE id = 1; UPDATE pb SET b = 'new b' WHERE n = 1; DELETE FROM pa WHERE id = 2;"
              "DELETE FROM pb WHERE n = 2; INSERT INTO pa VALUES (900, 'x'); INSERT INTO pb VALUES (900, 'y')");
    const auto different = verify_pair(pb_);
    EXPECT_EQ(different.state, "different");
    EXPECT_EQ(different.missing + different.extra + different.different, 3U);
    ledger_->mark_dirty({bigint_key(pair(pb_)->id, 900)}, "test");
    repair_all(pa_, {1, 2});
    EXPECT_TRUE(eventually([&] { return ledger_->dirty_count() == 0; })) << repair_->last_error();
    EXPECT_EQ(lines(on_source("SELECT string_agg(p::text, ';' ORDER BY id) FROM p WHERE id IN (1, 2, 900)")),
              "(1,\"new a\",\"new b\");(900,x,y)");
    EXPECT_EQ(verify_pair(pa_).state, "equal");
    EXPECT_EQ(verify_pair(pb_).state, "equal");
}

TEST_F(MappedSync, ARowThatMovesInAndOutOfTheFilterDuringTheCopyIsKnown) {
    // As a session does: a row that left the filter is a removal, journaled while a window is open.
    Backfill backfill(backfill_context());
    start_repair();
    backfill.start();
    for (std::int64_t round = 0; round < 200; ++round) {
        const std::int64_t id = 1 + round % 40;
        on_source("UPDATE t SET kind = CASE kind WHEN 'gone' THEN 'here' ELSE 'gone' END WHERE id = " + std::to_string(id));
        CommitIntent intent;
        intent.writes.push_back({bigint_key(pair(u_)->id, id), true, true});
        std::promise<bool> durable;
        const TxnId txn = ledger_->begin_commit(std::move(intent), [&](bool ok) { durable.set_value(ok); });
        durable.get_future().get();
        ledger_->finish(txn, CommitOutcome::mirrored);
    }
    EXPECT_TRUE(eventually([&] { return backfill.done() && ledger_->dirty_count() == 0; }));
    backfill.stop();
    expect_alike();
}

}  // namespace
}  // namespace banyan::test
