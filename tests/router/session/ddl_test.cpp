// Changes of the schema in a session: refused, noticed, and what follows them in their transaction.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using router::DdlPolicy;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

struct Ddl : Scene {
    explicit Ddl(DdlPolicy policy = DdlPolicy::mirror) : Scene(Phase::dual_write) {
        config.mirror.ddl = policy;
        log_in();
    }
    /// The reasons of the marks of the last journal entry.
    Lines reasons() const {
        Lines reasons;
        for (const auto& mark : port.intents.back().suspects) {
            reasons.push_back(std::to_string(mark.table) + " " + mark.reason);
        }
        return reasons;
    }
};

TEST(Ddl, RefusedItReachesNoServerAndItsTransactionHasFailed) {
    Ddl scene(DdlPolicy::refuse);
    const auto plain = scene.ask(query("ALTER TABLE item ADD x int"));
    ASSERT_EQ(plain.size(), 2U);
    EXPECT_THAT(plain[0], HasSubstr("55000"));
    EXPECT_EQ(plain[1], "Z I");
    scene.send(query("BEGIN"));
    const auto inside = scene.ask(query("CREATE INDEX ON item (name)"));
    EXPECT_THAT(inside.back(), "Z E");
    for (const auto& line : scene.source.log()) {
        EXPECT_THAT(line, Not(HasSubstr("ALTER")));
        EXPECT_THAT(line, Not(HasSubstr("CREATE")));
    }
    EXPECT_EQ(scene.target.log(), Lines{});
}

TEST(Ddl, RefusedInThePipelineItIsOneErrorUpToSync) {
    Ddl scene(DdlPolicy::refuse);
    const auto answers =
        scene.ask(parse("", "DROP TABLE item") + bind_portal("", "") + execute() +
                  parse("", "INSERT INTO item VALUES (7)") + bind_portal("", "") + execute() +
                  sync());
    ASSERT_EQ(answers.size(), 4U);
    EXPECT_THAT(answers[2], HasSubstr("55000"));
    EXPECT_EQ(answers[3], "Z I");
    EXPECT_TRUE(scene.port.intents.empty());
}

TEST(Ddl, BehindItNothingOfItsTransactionIsCaptured) {
    Ddl scene;
    scene.send(query("BEGIN") + query("ALTER TABLE item DROP COLUMN name") +
               query("INSERT INTO item VALUES (7)"));
    const auto log = scene.source.log();
    EXPECT_THAT(log, Contains("Parse INSERT INTO item VALUES (7)"));
    EXPECT_THAT(log, Not(Contains("Parse INSERT INTO item VALUES (7) ~")));
    scene.send(query("ROLLBACK") + query("INSERT INTO item VALUES (8)"));
    EXPECT_THAT(scene.source.log(), Contains("Parse INSERT INTO item VALUES (8) ~"));
}

TEST(Ddl, ThatTheMirrorDoesNotTakeMakesEveryTableSuspect) {
    Ddl scene;
    scene.target.on("ALTER TABLE", refusal("42701"));
    scene.send(query("ALTER TABLE item ADD x int"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_THAT(scene.reasons(), Contains("0 ddl_not_mirrored"));
}

TEST(Ddl, OfThePrimaryAloneIsNotSentToTheMirror) {
    Ddl scene(DdlPolicy::primary_only);
    scene.send(query("ALTER TABLE item ADD x int"));
    EXPECT_THAT(scene.source.log(), Contains("Parse ALTER TABLE item ADD x int"));
    EXPECT_EQ(scene.target.log(), Lines{});
    EXPECT_THAT(scene.reasons(), ElementsAre("100 ddl_primary_only"));
    EXPECT_EQ(scene.port.reloads, 1);
}

TEST(Ddl, HiddenInABlockIsNoticedByWhatItDidToTheCatalogue) {
    Ddl scene;
    scene.send(query("DO 'BEGIN END'"));
    EXPECT_EQ(scene.port.reloads, 0);
    scene.source.on("pg_stat_xact_user_tables",
                    Reply({"relid", "count"}, {{"clock", "1"}, {"schema", "3"}}));
    scene.send(query("DO 'BEGIN END'"));
    EXPECT_EQ(scene.port.reloads, 0);  // so much stood there before it
    scene.source.on("pg_stat_xact_user_tables",
                    Reply({"relid", "count"}, {{"clock", "1"}, {"schema", "3"}, {"locked", "100"}}));
    scene.send(query("DO 'BEGIN END'"));
    EXPECT_EQ(scene.port.reloads, 1);
}

TEST(Ddl, ConcurrentlyIsJournaledBeforeItIsSentAndTheCatalogueReadAfterIt) {
    Ddl scene;
    scene.send(query("ALTER TABLE item DETACH PARTITION p CONCURRENTLY"));
    ASSERT_EQ(scene.port.intents.size(), 1U);
    EXPECT_THAT(scene.reasons(), Contains("100 concurrent_ddl"));
    EXPECT_EQ(scene.target.log(), Lines{});
    EXPECT_EQ(scene.port.reloads, 1);
    Ddl other;
    other.send(parse("", "CREATE INDEX CONCURRENTLY ON item (name)") + bind_portal("", "") +
               execute() + sync());
    EXPECT_TRUE(other.port.intents.empty());
    EXPECT_EQ(other.port.reloads, 1);
}

TEST(Ddl, ItsTransactionMayTakeTheMirrorLonger) {
    Ddl scene;
    scene.target.hangs = true;
    scene.send(query("ALTER TABLE item ADD x int"));
    EXPECT_EQ(scene.port.deadlines[Deadline::mirror], scene.config.mirror.ddl_timeout);
}

}  // namespace
}  // namespace banyan::test
