#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/session/route.hpp"
#include "tests/router/sql/mapped_catalog.hpp"

namespace banyan::router {
namespace {

Decision decided(const std::string& sql, bool schema_changed = false) {
    static const Catalog catalog = mapped_catalog();
    static const std::vector<std::string> search_path = {"public"};
    static const std::vector<std::string> temporary_tables;
    static const std::string role = "app";
    const auto query = parse_query(sql);
    EXPECT_TRUE(query->parsed) << sql;
    RouteContext context{&catalog, &search_path, &temporary_tables, &role};
    context.schema_changed = schema_changed;
    return decide(*query, query->statements.front(), context);
}

std::vector<TableId> suspects(const Decision& decision) {
    std::vector<TableId> ids;
    for (const auto& mark : decision.suspects) {
        ids.push_back(mark.table);
    }
    return ids;
}

TEST(MappedRoute, DdlOnAMappedTableStaysOnThePrimaryAndIsNamed) {
    for (const char* sql : {"ALTER TABLE split ADD x int", "CREATE INDEX ON split (a)", "DROP TABLE split"}) {
        const auto decision = decided(sql);
        EXPECT_EQ(decision.route, Route::guarded) << sql;
        EXPECT_EQ(decision.reason, "ddl_on_mapped") << sql;
        EXPECT_TRUE(decision.reload_catalog) << sql;
        EXPECT_THAT(suspects(decision), testing::ElementsAre(310U, 311U)) << sql;
    }
    EXPECT_THAT(suspects(decided("DROP TABLE split CASCADE")), testing::ElementsAre(0U));
    EXPECT_EQ(decided("ALTER TABLE usual ADD x int").route, Route::mirrored_text);
}

TEST(MappedRoute, TruncateGoesToTheMirrorUnderItsNamesOrNotAtAll) {
    const auto split = decided("TRUNCATE split");
    EXPECT_EQ(split.route, Route::mirrored_text);
    EXPECT_EQ(split.mirror_sql, "TRUNCATE TABLE \"public\".\"part_a\", \"public\".\"part_b\"");
    EXPECT_THAT(suspects(split), testing::IsEmpty());
    ASSERT_EQ(split.tables.size(), 2U);
    EXPECT_EQ(split.tables[1].table, 311U);
    EXPECT_TRUE(split.tables[1].removes);
    const auto joined = decided("TRUNCATE joined");
    EXPECT_EQ(joined.route, Route::guarded);
    EXPECT_EQ(joined.reason, "truncate_mapped");
    EXPECT_THAT(suspects(joined), testing::ElementsAre(320U));
    const auto later = decided("TRUNCATE shown", true);  // behind DDL in the same transaction
    EXPECT_EQ(later.route, Route::guarded);
    EXPECT_THAT(suspects(later), testing::ElementsAre(300U));
    const auto cascading = decided("TRUNCATE shown CASCADE");
    EXPECT_EQ(cascading.route, Route::guarded);
    EXPECT_THAT(suspects(cascading), testing::ElementsAre(0U));
}

TEST(MappedRoute, CopyMakesEveryTableOfASplitSuspect) {
    const auto copy = decided("COPY split FROM STDIN");
    EXPECT_EQ(copy.copy, nullptr);
    EXPECT_THAT(suspects(copy), testing::ElementsAre(310U, 311U));
}

}  // namespace
}  // namespace banyan::router
