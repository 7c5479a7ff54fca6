// Capture of writes to mapped tables: what is appended to the statement, and what each mirror table
// gets of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/sql/capture.hpp"
#include "router/sql/table_writes.hpp"
#include "tests/router/sql/mapped_catalog.hpp"

namespace banyan::router {
namespace {

using testing::ElementsAre;

const Catalog& catalog() {
    static const Catalog made = mapped_catalog();
    return made;
}

CapturePlan captured(const std::string& sql) {
    const auto query = parse_query(sql);
    auto outcome = plan_capture(*query, query->statements.at(0), catalog(), {"public"}, "app", {});
    if (auto* reason = std::get_if<NotCaptured>(&outcome); reason != nullptr) {
        ADD_FAILURE() << sql << " not captured: " << reason->reason;
        return {};
    }
    const CapturePlan plan = std::get<CapturePlan>(outcome);
    EXPECT_TRUE(parse_query(plan.sql)->parsed) << plan.sql;
    return plan;
}

std::string returning(const CapturePlan& plan) {
    return plan.sql.substr(plan.sql.rfind("\nRETURNING") + 11);
}

TEST(MappedCapture, TheKeyTheFilterAndTheExpressionsAreReturnedUnderTheStatementsOwnNames) {
    const std::string passes = "coalesce((SELECT (kind > 0) FROM (SELECT s.\"kind\") AS banyan_row(\"kind\")), false)";
    const auto shown = [&](std::string name) {
        std::string filter = passes;
        std::string text = "s.\"id\", " + filter + ", s.\"id\", CASE WHEN " + filter +
                           " THEN (SELECT (v * 2) FROM (SELECT s.\"v\") AS banyan_row(\"v\")) END";
        for (auto at = text.find("s.\""); at != std::string::npos; at = text.find("s.\"", at + name.size())) {
            text.replace(at, 1, name);
        }
        return text;
    };
    const auto plan = captured("UPDATE shown AS s SET v = 1 FROM usual AS v WHERE s.id = v.id");
    EXPECT_EQ(returning(plan), shown("\"s\""));
    EXPECT_EQ(returning(captured("INSERT INTO shown VALUES (1, 2, 3)")), shown("\"shown\""));
    EXPECT_THAT(plan.columns, ElementsAre(0U));
    EXPECT_EQ(plan.width(), 4U);
    EXPECT_THAT(plan.formats(), ElementsAre(1, 1, 1, 1));
    ASSERT_EQ(plan.images.size(), 1U);
    EXPECT_EQ(plan.images[0].passes, 1U);
    EXPECT_EQ(plan.images[0].first, 2U);
    EXPECT_EQ(plan.images[0].count, 2U);
    EXPECT_FALSE(plan.images[0].key_only);
}

TEST(MappedCapture, ADeleteNeedsTheKeyAlone) {
    const auto plan = captured("DELETE FROM shown WHERE id = 1");
    EXPECT_EQ(returning(plan), "\"shown\".\"id\"");
    EXPECT_EQ(plan.images.at(0).passes, std::nullopt);
}

TEST(MappedCapture, ASplitYieldsOneImageForEachTable) {
    const auto plan = captured("INSERT INTO split VALUES (1, 2, 3) ON CONFLICT (id) DO UPDATE SET a = 1");
    EXPECT_EQ(returning(plan), "\"split\".\"id\", \"split\".\"id\", \"split\".\"a\", \"split\".\"id\", \"split\".\"b\"");
    ASSERT_EQ(plan.images.size(), 2U);
    EXPECT_EQ(plan.images[0].table->id, 310U);
    EXPECT_EQ(plan.images[1].table->id, 311U);
    EXPECT_EQ(plan.images[1].first, 3U);
    EXPECT_TRUE(plan.may_update);
}

TEST(MappedCapture, WhatNeedsOtherTablesTooIsLeftToRepair) {
    for (const char* sql : {"INSERT INTO joined VALUES (1, 2)", "DELETE FROM joined", "UPDATE joined SET a = 1"}) {
        const auto plan = captured(sql);
        EXPECT_EQ(returning(plan), "\"joined\".\"id\"") << sql;
        EXPECT_TRUE(plan.images.at(0).key_only) << sql;
    }
}

TEST(MappedCapture, TheMirrorsSqlUsesItsNamesAndKeepsItsOtherRows) {
    EXPECT_EQ(upsert_sql(*catalog().table_by_id(300)),
              "INSERT INTO \"public\".\"seen\" (\"key\", \"double\") OVERRIDING SYSTEM VALUE VALUES ($1, $2) "
              "ON CONFLICT (\"key\") DO UPDATE SET \"double\" = EXCLUDED.\"double\"");
    EXPECT_EQ(delete_sql(*catalog().table_by_id(300)), "DELETE FROM ONLY \"public\".\"seen\" WHERE \"key\" = $1");
    EXPECT_EQ(upsert_sql(*catalog().table_by_id(330)),
              "INSERT INTO \"public\".\"store\" AS banyan_mirror (\"id\", \"v\") OVERRIDING SYSTEM VALUE VALUES ($1, $2) "
              "ON CONFLICT (\"id\") DO UPDATE SET \"v\" = EXCLUDED.\"v\" "
              "WHERE (SELECT (v > 0) FROM (SELECT banyan_mirror.\"v\") AS banyan_row(\"v\"))");
    EXPECT_EQ(delete_sql(*catalog().table_by_id(330)), "DELETE FROM ONLY \"public\".\"store\" WHERE \"id\" = $1 AND (v > 0)");
}

TEST(MappedCapture, SuspicionReachesEveryTableOfASplit) {
    const auto query = parse_query("UPDATE owner SET id = 1 WHERE random() > 0");
    auto outcome = plan_capture(*query, query->statements.at(0), catalog(), {"public"}, "app", {});
    std::vector<TableId> ids;
    for (const auto& table : std::get<NotCaptured>(outcome).tables) {
        ids.push_back(table->id);
    }
    EXPECT_THAT(ids, ElementsAre(340U, 310U, 311U));
}

TEST(MappedCapture, AReadOfAMappedTableIsNoShadowRead) {
    const auto reason = [](const std::string& sql) {
        const auto query = parse_query(sql);
        return shadow_skip_reason(*query, query->statements.at(0), catalog(), {"public"}, {});
    };
    EXPECT_EQ(reason("SELECT * FROM usual"), "");
    EXPECT_EQ(reason("SELECT * FROM usual WHERE id IN (SELECT id FROM shown)"), "mapped_table");
}

TEST(MappedCapture, TruncateIsTranslatedWhereItMeansTheSame) {
    const auto there = [](const std::string& sql) {
        const auto query = parse_query(sql);
        const auto planned = plan_truncate(*query, query->statements.at(0), catalog(), {"public"});
        const auto* plan = std::get_if<TruncatePlan>(&planned);
        return plan != nullptr ? plan->sql : std::get<NotCaptured>(planned).reason;
    };
    EXPECT_EQ(there("TRUNCATE shown"), "TRUNCATE TABLE \"public\".\"seen\"");
    EXPECT_EQ(there("TRUNCATE TABLE ONLY public.split, usual RESTART IDENTITY"),
              "TRUNCATE TABLE \"public\".\"part_a\", \"public\".\"part_b\", \"public\".\"usual\" RESTART IDENTITY");
    EXPECT_EQ(there("TRUNCATE shown CASCADE"), "truncate_cascade");
    EXPECT_EQ(there("TRUNCATE joined"), "truncate_mapped");
    EXPECT_EQ(there("TRUNCATE kept"), "truncate_mapped");
    EXPECT_EQ(there("TRUNCATE nowhere"), "truncate");
}

}  // namespace
}  // namespace banyan::router
