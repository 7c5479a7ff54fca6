#include "router/catalog/catalog.hpp"

#include <gtest/gtest.h>

#include <memory>

namespace banyan::router {
namespace {

Column column(std::string name, Oid type = 23) {
    Column result;
    result.name = std::move(name);
    result.type = type;
    return result;
}

Table sample() {
    Table table;
    table.id = 7;
    table.oid = 70;
    table.schema = "public";
    table.name = "or\"ders";
    table.columns = {column("id"), column("Total"), column("twice")};
    table.columns[2].generated = true;
    table.key = {0};
    return table;
}

TEST(CatalogQuoting, identifiers_are_always_quoted_and_inner_quotes_doubled) {
    EXPECT_EQ(quote_identifier("plain"), "\"plain\"");
    EXPECT_EQ(quote_identifier("a\"b"), "\"a\"\"b\"");
    EXPECT_EQ(quote_identifier(""), "\"\"");
    EXPECT_EQ(sample().sql_name(), "\"public\".\"or\"\"ders\"");
}

TEST(CatalogQuoting, literals_read_the_same_whatever_standard_conforming_strings_says) {
    EXPECT_EQ(quote_literal("it's"), "'it''s'");
    EXPECT_EQ(quote_literal("a\\b"), " E'a\\\\b'");
    EXPECT_EQ(quote_literal("\\'"), " E'\\\\'''");
    EXPECT_EQ(quote_literal(""), "''");
}

TEST(CatalogSql, an_upsert_writes_every_column_but_generated_ones) {
    EXPECT_EQ(image_columns(sample()), (std::vector<std::size_t>{0, 1}));
    EXPECT_EQ(upsert_sql(sample()),
              "INSERT INTO \"public\".\"or\"\"ders\" (\"id\", \"Total\") OVERRIDING SYSTEM VALUE "
              "VALUES ($1, $2) ON CONFLICT (\"id\") DO UPDATE SET \"Total\" = EXCLUDED.\"Total\"");
}

TEST(CatalogSql, an_upsert_of_a_table_of_nothing_but_its_key_still_touches_the_row) {
    Table table = sample();
    table.columns = {column("a"), column("b")};
    table.key = {1, 0};
    EXPECT_EQ(upsert_sql(table),
              "INSERT INTO \"public\".\"or\"\"ders\" (\"a\", \"b\") OVERRIDING SYSTEM VALUE VALUES "
              "($1, $2) ON CONFLICT (\"b\", \"a\") DO UPDATE SET \"a\" = EXCLUDED.\"a\"");
}

TEST(CatalogSql, a_key_whose_equal_values_may_differ_is_written_too) {
    Table table = sample();
    table.columns[0].type = 1700;  // numeric: 1.0 = 1.00
    EXPECT_NE(upsert_sql(table).find("SET \"id\" = EXCLUDED.\"id\", \"Total\""), std::string::npos);
}

TEST(CatalogSql, an_always_identity_column_is_inserted_but_never_updated) {
    Table table = sample();
    table.columns[1].identity = Identity::always;
    EXPECT_NE(upsert_sql(table).find("DO UPDATE SET \"id\" = EXCLUDED.\"id\""), std::string::npos);
    table.columns[0].identity = Identity::always;
    EXPECT_NE(upsert_sql(table).find("DO NOTHING"), std::string::npos);
}

TEST(CatalogSql, a_delete_compares_the_key_in_key_order) {
    Table table = sample();
    table.key = {1, 0};
    EXPECT_EQ(delete_sql(table),
              "DELETE FROM ONLY \"public\".\"or\"\"ders\" WHERE \"Total\" = $1 AND \"id\" = $2");
}

TEST(CatalogFind, names_resolve_along_the_search_path) {
    Catalog catalog;
    Table first = sample();
    first.name = "t";
    Table second = first;
    second.oid = 71;
    second.id = 8;
    second.schema = "other";
    catalog.add_table(std::make_shared<const Table>(first));
    catalog.add_table(std::make_shared<const Table>(second));
    catalog.add_other_relation("other", "v", 'v');

    EXPECT_EQ(catalog.find({"", "t", ""}, {"other", "public"}).table->oid, 71U);
    EXPECT_EQ(catalog.find({"", "t", "x"}, {"missing", "public"}).table->oid, 70U);
    EXPECT_EQ(catalog.find({"public", "t", ""}, {"other"}).table->oid, 70U);
    EXPECT_EQ(catalog.find({"", "t", ""}, {}).table, nullptr);
    EXPECT_EQ(catalog.find({"", "T", ""}, {"public"}).relkind, 0);
    EXPECT_EQ(catalog.find({"", "v", ""}, {"public", "other"}).relkind, 'v');
    EXPECT_EQ(catalog.table_by_id(8)->schema, "other");
    EXPECT_EQ(catalog.table_by_oid(72), nullptr);
    EXPECT_EQ(catalog.tables().size(), 2U);
}

TEST(CatalogFind, a_leaf_partition_gives_its_root_whichever_was_added_first) {
    Catalog catalog;
    catalog.add_partition("public", "t_1", 700, 70);
    catalog.add_partition("public", "t_1_1", 701, 700);
    Table root = sample();
    root.partitioned = true;
    catalog.add_table(std::make_shared<const Table>(root));
    const Catalog::Found found = catalog.find({"", "t_1_1", ""}, {"public"});
    ASSERT_NE(found.table, nullptr);
    EXPECT_EQ(found.table->oid, 70U);
    EXPECT_TRUE(found.leaf);
    EXPECT_EQ(catalog.root_of(701), 70U);
    EXPECT_EQ(catalog.root_of(70), 70U);
    EXPECT_EQ(catalog.root_of(5), 5U);
    EXPECT_EQ(catalog.find({"public", root.name, ""}, {}).relkind, 'p');
}

TEST(CatalogFind, privileges_and_volatile_functions_are_what_was_added) {
    Catalog catalog;
    catalog.grant_select("app", 70);
    catalog.add_volatile_function("f");
    EXPECT_TRUE(catalog.may_select("app", 70));
    EXPECT_FALSE(catalog.may_select("app", 71));
    EXPECT_FALSE(catalog.may_select("other", 70));
    EXPECT_TRUE(catalog.is_volatile("f"));
    EXPECT_FALSE(catalog.is_volatile("g"));
}

}  // namespace
}  // namespace banyan::router
