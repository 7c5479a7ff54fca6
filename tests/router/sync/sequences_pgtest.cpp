#include "router/sync/sequences.hpp"

#include "tests/router/sync/two_sides.hpp"

namespace banyan::test {
namespace {

class SequencesTest : public TwoSides {
   protected:
    Result<std::vector<SequenceAdvance>> advance(std::int64_t margin) {
        auto from = source_cluster->connect(database_);
        auto to = target_cluster->connect(database_);
        return advance_sequences(from, to, margin);
    }
    std::int64_t next(const std::string& name) {
        return on_target("SELECT nextval('" + name + "')").number(0, 0);
    }
};

TEST_F(SequencesTest, AreSetPastTheOtherSideWithAMargin) {
    on_both("CREATE SEQUENCE up; CREATE SEQUENCE \"Down \"\"x\" INCREMENT -5;"
            "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY)");
    on_source("SELECT setval('up', 500); SELECT setval('\"Down \"\"x\"', -100);"
              "INSERT INTO t SELECT FROM generate_series(1, 42)");
    ASSERT_EQ(must(advance(10)).size(), 3U);
    EXPECT_EQ(next("up"), 511);
    EXPECT_EQ(next("\"Down \"\"x\""), -155);
    EXPECT_EQ(next("t_id_seq"), 53);
}

TEST_F(SequencesTest, NeverMoveBackwards) {
    on_both("CREATE SEQUENCE up; CREATE SEQUENCE down INCREMENT -1");
    on_target("SELECT setval('up', 5000); SELECT setval('down', -5000)");
    EXPECT_TRUE(must(advance(10)).empty());
    EXPECT_EQ(next("up"), 5001);
    EXPECT_EQ(next("down"), -5001);
}

TEST_F(SequencesTest, AreClampedToTheirBounds) {
    on_both("CREATE SEQUENCE small MAXVALUE 100; CREATE SEQUENCE huge INCREMENT 9223372036854775807");
    on_source("SELECT setval('small', 95); SELECT nextval('huge')");
    must(advance(1000));
    EXPECT_EQ(on_target("SELECT last_value FROM small").number(0, 0), 100);
    EXPECT_EQ(on_target("SELECT last_value FROM huge").number(0, 0), INT64_MAX);
}

TEST_F(SequencesTest, AnEqualButUncalledValueCountsAsBehind) {
    on_both("CREATE SEQUENCE s");
    on_source("SELECT nextval('s')");  // 1 was handed out; the target would hand out 1 as well
    ASSERT_EQ(must(advance(0)).size(), 1U);
    EXPECT_EQ(next("s"), 2);
}

TEST_F(SequencesTest, MissingOnesAreAnErrorThatNamesThemAllAndChangesNothing) {
    on_source("CREATE SEQUENCE a; CREATE SEQUENCE b; CREATE SEQUENCE c; SELECT setval('c', 7)");
    on_target("CREATE SEQUENCE c");
    auto advanced = advance(10);
    ASSERT_FALSE(advanced);
    EXPECT_NE(advanced.error().message.find("public.a, public.b"), std::string::npos);
    EXPECT_EQ(next("c"), 1);
}

TEST_F(SequencesTest, ManySequencesAreReadInBatches) {
    on_both("DO $$ BEGIN FOR i IN 1..450 LOOP EXECUTE 'CREATE SEQUENCE s' || i; END LOOP; END $$");
    EXPECT_EQ(must(advance(5)).size(), 450U);
    EXPECT_EQ(next("s450"), 7);
}

}  // namespace
}  // namespace banyan::test
