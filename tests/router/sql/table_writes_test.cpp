#include "router/sql/table_writes.hpp"

#include <gtest/gtest.h>

#include "tests/router/sql/sample_catalog.hpp"

namespace banyan::router {
namespace {

const std::vector<std::string> search_path = {"public"};

const Catalog& catalog() {
    static const Catalog made = [] {
        Catalog catalog = sample_catalog();
        Table types = table(160, "types", {"id", "mood", "moods"});
        types.columns[1].binary = types.columns[2].binary = false;
        types.columns[2].portable = false;
        catalog.add_table(std::make_shared<const Table>(types));
        Table wider = table(161, "wider", {"id"});
        wider.same_columns = false;
        catalog.add_table(std::make_shared<const Table>(wider));
        Table watched = table(162, "watched", {"id"});
        watched.user_triggers = true;
        catalog.add_table(std::make_shared<const Table>(watched));
        return catalog;
    }();
    return made;
}

/// The mirror's COPY, or "- reason".
std::string copied(const std::string& sql) {
    const auto query = parse_query(sql);
    EXPECT_TRUE(query->parsed) << sql;
    const auto& statement = query->statements.back();
    const auto plan =
        plan_copy(*query, statement, catalog().find(statement.target, search_path));
    if (const auto* made = std::get_if<CopyPlan>(&plan)) {
        return made->sql;
    }
    return "- " + std::get<NotCaptured>(plan).reason;
}

std::string truncated(const std::string& sql) {
    const auto query = parse_query(sql);
    const auto plan = plan_truncate(*query, query->statements.back(), catalog(), search_path);
    if (const auto* made = std::get_if<TruncatePlan>(&plan)) {
        return made->sql;
    }
    return "- " + std::get<NotCaptured>(plan).reason;
}

struct Case {
    const char* sql;
    std::string expected;
};

TEST(TableWrites, TheMirrorsCopyNamesItsTableAndColumns) {
    const std::string item = R"(COPY "public"."item" ("id", "name", "Odd ""Name") FROM STDIN)";
    const Case cases[] = {
        {"COPY item FROM STDIN", item},
        {"SELECT 1; COPY public.item FROM STDIN", item},
        {R"(COPY item ("Odd ""Name", id, name) FROM STDIN)",
         R"(COPY "public"."item" ("Odd ""Name", "id", "name") FROM STDIN)"},
        {"COPY pair (b, a) FROM STDIN", R"(COPY "public"."pair" ("b", "a") FROM STDIN)"},
        {"COPY generated FROM STDIN", R"(COPY "public"."generated" ("id", "v") FROM STDIN)"},
        {"COPY item FROM STDIN BINARY", item + " WITH (format 'binary')"},
        {"COPY item FROM STDIN CSV HEADER DELIMITER '|' NULL ''",
         item + " WITH (format 'csv', header TRUE, delimiter '|', null '')"},
        {"COPY item FROM STDIN (FORMAT csv, HEADER match, QUOTE '''', ESCAPE '\\', ENCODING 'latin1')",
         item + R"( WITH (format 'csv', header 'match', quote '''', escape  E'\\', encoding 'latin1'))"},
        {"COPY item FROM STDIN (FREEZE, FORMAT csv, FORCE_NULL (name), FORCE_NOT_NULL (\"Odd \"\"Name\"))",
         item + R"( WITH (format 'csv', force_null ("name"), force_not_null ("Odd ""Name")))"},
        {"COPY item FROM STDIN (FREEZE true)", item},
        {"COPY item FROM STDIN (HEADER 0)", item + " WITH (header 0)"},
        {"COPY types FROM STDIN", R"(COPY "public"."types" ("id", "mood", "moods") FROM STDIN)"},
        {"COPY events FROM STDIN", R"(COPY "public"."events" ("id", "at") FROM STDIN)"},
        {"COPY events_1 (at, id) FROM STDIN",
         R"(COPY "public"."events" ("at", "id") FROM STDIN)"},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(copied(each.sql), each.expected) << each.sql;
    }
}

TEST(TableWrites, ACopyWhoseRowsDoNotFollowFromItsDataIsNamed) {
    const Case cases[] = {
        {"COPY item (id, name) FROM STDIN", "- copy_default"},
        {"COPY pair (b) FROM STDIN", "- copy_default"},
        {"COPY item FROM STDIN WHERE id > 1", "- copy_where"},
        {"COPY item FROM STDIN (ON_ERROR ignore)", "- copy_option"},
        {"COPY item FROM STDIN (DEFAULT 'd')", "- copy_option"},
        {"COPY item FROM STDIN (FORMAT csv, FORCE_NULL *)", "- copy_option"},
        {"COPY item (id, nothing) FROM STDIN", "- copy_columns"},
        {"COPY wider FROM STDIN", "- copy_columns"},
        {"COPY events_1 FROM STDIN", "- copy_into_partition"},
        {"COPY types FROM STDIN BINARY", "- copy_binary_type"},
        {"COPY fragile FROM STDIN", "- copy_fragile_type"},
        {"COPY keyless FROM STDIN", "- no_key"},
        {"COPY secured FROM STDIN", "- row_security"},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(copied(each.sql), each.expected) << each.sql;
    }
}

TEST(TableWrites, AnEnumTravelsInBinaryByItsLabel) {
    EXPECT_EQ(copied("COPY types (id, mood) FROM STDIN BINARY"), "- copy_default");
    EXPECT_EQ(copied("COPY pair (b, a) FROM STDIN BINARY"),
              R"(COPY "public"."pair" ("b", "a") FROM STDIN WITH (format 'binary'))");
}

TEST(TableWrites, TheMirrorsTruncateNamesItsTables) {
    const Case cases[] = {
        {"TRUNCATE item", R"(TRUNCATE TABLE "public"."item")"},
        {"TRUNCATE TABLE ONLY item, public.pair RESTART IDENTITY RESTRICT",
         R"(TRUNCATE TABLE ONLY "public"."item", "public"."pair" RESTART IDENTITY)"},
        {"TRUNCATE events", R"(TRUNCATE TABLE "public"."events")"},
        {"TRUNCATE parent", R"(TRUNCATE TABLE "public"."parent")"},
        {"TRUNCATE item CASCADE", "- truncate_cascade"},
        {"TRUNCATE events_1", "- truncate_partition"},
        {"TRUNCATE item, watched", "- truncate_with_triggers"},
        {"TRUNCATE item, keyless", "- truncate"},
        {"TRUNCATE nowhere", "- truncate"},
    };
    for (const auto& each : cases) {
        EXPECT_EQ(truncated(each.sql), each.expected) << each.sql;
    }
}

}  // namespace
}  // namespace banyan::router
