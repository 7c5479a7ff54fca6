// Rules of [[mapping]] against two real databases: the pairs they make, and every way they can be wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "router/catalog/catalog_loader.hpp"
#include "router/catalog/mapping.hpp"
#include "tests/support/postgres_cluster.hpp"

namespace banyan::test {
namespace {

using namespace banyan::router;  // NOLINT
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

RowExpression plain(const std::string& name) { return {quote_identifier(name), {name}, true}; }
RowExpression computed(const std::string& sql, std::vector<std::string> columns) {
    return {"(" + sql + ")", std::move(columns), false};
}

class MappingTest : public ::testing::Test {
   protected:
    static void SetUpTestSuite() {
        cluster = std::make_unique<PostgresCluster>(std::vector<std::string>{"fsync=off"});
    }
    static void TearDownTestSuite() { cluster.reset(); }

    void SetUp() override {
        static int count = 0;
        name_ = "map" + std::to_string(++count);
        cluster->create_database(name_ + "s");
        cluster->create_database(name_ + "t");
        directory_ = std::filesystem::temp_directory_path() /
                     ("banyan-mapping-" + std::to_string(::getpid()) + name_);
        std::filesystem::create_directories(directory_);
        auto db = StateDb::open(directory_, StateDb::Durability::process);
        ASSERT_TRUE(db);
        db_ = std::move(*db);
        on_source("CREATE TABLE customer (id bigserial PRIMARY KEY, email text NOT NULL, made timestamptz NOT NULL"
                  " DEFAULT now(), changed timestamptz, old int)");
        on_target("CREATE SCHEMA crm; CREATE TABLE crm.person (pid bigserial PRIMARY KEY, email text NOT NULL,"
                  " touched timestamptz NOT NULL, extra text DEFAULT 'x')");
        rule_.source = {"public", "customer"};
        rule_.target = {"crm", "person"};
        rule_.columns = {{"pid", plain("id")},
                         {"email", computed("lower(email)", {"email"})},
                         {"touched", computed("coalesce(changed, made)", {"changed", "made"})}};
        rule_.reverse = {{"email", plain("email")}, {"changed", plain("touched")}};
        rule_.ignore = {"old"};
    }
    void TearDown() override {
        db_.reset();
        std::filesystem::remove_all(directory_);
    }
    Rows on_source(const std::string& sql) { return cluster->run(sql, name_ + "s"); }
    Rows on_target(const std::string& sql) { return cluster->run(sql, name_ + "t"); }
    std::shared_ptr<const Catalog> load(Side primary = Side::source) {
        return load({rule_}, primary);
    }
    std::shared_ptr<const Catalog> load(const std::vector<MappingRule>& rules,
                                        Side primary = Side::source) {
        auto source = cluster->connect(name_ + "s");
        auto target = cluster->connect(name_ + "t");
        CatalogOptions options;
        options.mappings = rules;
        auto loaded = primary == Side::source
                          ? load_catalog(source, target, primary, *db_, options, 1)
                          : load_catalog(target, source, primary, *db_, options, 1);
        if (!loaded) {
            throw std::runtime_error(loaded.error().message);
        }
        return *loaded;
    }
    static std::vector<std::string> names(const Table& table) {
        std::vector<std::string> all;
        for (const Column& column : table.columns) {
            all.push_back(column.name);
        }
        return all;
    }

    inline static std::unique_ptr<PostgresCluster> cluster;
    std::string name_;
    std::filesystem::path directory_;
    std::unique_ptr<StateDb> db_;
    MappingRule rule_;
};

TEST_F(MappingTest, MakesAPairWithOneIdentityAndOneKeyInBothDirections) {
    const auto forward = load();
    EXPECT_THAT(forward->mapping_problems, IsEmpty());
    const auto customer = forward->find({"public", "customer", ""}, {}).table;
    ASSERT_NE(customer, nullptr);
    ASSERT_TRUE(customer->captured()) << customer->not_captured_because;
    ASSERT_TRUE(customer->mapped());
    EXPECT_EQ(customer->display_name(), "public.customer->crm.person");
    EXPECT_THAT(names(customer->on_mirror()), ElementsAre("pid", "email", "touched"));
    EXPECT_FALSE(customer->mapping->plain);
    EXPECT_FALSE(customer->mapping->reverse_check.empty());
    EXPECT_EQ(forward->sequence_twins.at("public.customer_id_seq"), "crm.person_pid_seq");

    const auto backward = load(Side::target);
    const auto person = backward->find({"crm", "person", ""}, {}).table;
    ASSERT_NE(person, nullptr);
    ASSERT_TRUE(person->captured()) << person->not_captured_because;
    EXPECT_EQ(person->id, customer->id);
    EXPECT_THAT(names(person->on_mirror()), ElementsAre("id", "email", "changed"));
    EXPECT_EQ(backward->sequence_twins.at("crm.person_pid_seq"), "public.customer_id_seq");
    EXPECT_EQ(backward->find({"public", "customer", ""}, {}).table, nullptr);
}

TEST_F(MappingTest, TheSqlOfAPairReadsTheSameRowsOnBothSides) {
    rule_.where = computed("old > 0", {"old"});
    on_source("INSERT INTO customer (id, email, made, old) VALUES (1, 'A@b', '2020-01-01Z', 1), (2, 'C', now(), 0)");
    on_target("INSERT INTO crm.person VALUES (1, 'a@b', '2020-01-01Z')");
    const auto forward = load()->find({"public", "customer", ""}, {}).table;
    ASSERT_TRUE(forward->captured()) << forward->not_captured_because;
    const std::string select = "SELECT string_agg(t::text, ';' ORDER BY t::text) FROM ";
    EXPECT_EQ(on_source(select + primary_rows(*forward)).text(0, 0),
              on_target(select + "(SELECT pid, email, touched FROM crm.person) AS t").text(0, 0));
    // The way back would change the address, and a row that was never modified.
    EXPECT_EQ(on_source(forward->mapping->reverse_check).text(0, 0), "1");
    EXPECT_EQ(on_source(forward->mapping->reverse_check).text(0, 1), "(1)");
    on_source("UPDATE customer SET email = lower(email), changed = made");
    EXPECT_EQ(on_source(forward->mapping->reverse_check).text(0, 0), "0");
    const auto back = load(Side::target)->find({"crm", "person", ""}, {}).table;
    EXPECT_EQ(on_target(select + primary_rows(*back)).text(0, 0),
              on_source(select + mirror_rows(*back)).text(0, 0));
}

TEST_F(MappingTest, ASplitIsOneTableWithSiblingsAndItsRowsComeBackJoined) {
    on_source("CREATE TABLE p (id int PRIMARY KEY, a text NOT NULL, b text NOT NULL); INSERT INTO p VALUES (1, 'a', 'b'), (2, 'c', 'd')");
    on_target("CREATE TABLE pa (id int PRIMARY KEY, a text NOT NULL); CREATE TABLE pb (n int PRIMARY KEY, b text NOT NULL);"
              "INSERT INTO pa VALUES (1, 'a'), (2, 'c'); INSERT INTO pb VALUES (1, 'b'), (2, 'd')");
    MappingRule first;
    first.source = {"public", "p"};
    first.target = {"public", "pa"};
    MappingRule second = first;
    second.target = {"public", "pb"};
    second.columns = {{"n", plain("id")}};
    const auto forward = load({first, second});
    EXPECT_THAT(forward->mapping_problems, IsEmpty());
    const auto p = forward->find({"public", "p", ""}, {}).table;
    ASSERT_TRUE(p->captured()) << p->not_captured_because;
    ASSERT_EQ(p->siblings.size(), 1U);
    EXPECT_NE(p->siblings.front()->id, p->id);
    EXPECT_EQ(p->siblings.front()->display_name(), "public.p->public.pb");
    EXPECT_EQ(forward->table_by_id(p->siblings.front()->id), p->siblings.front());
    EXPECT_EQ(p->mapping->reverse_check, "");  // nothing but names
    const auto backward = load({first, second}, Side::target);
    for (const char* name : {"pa", "pb"}) {
        const auto table = backward->find({"public", name, ""}, {}).table;
        ASSERT_TRUE(table->captured()) << table->not_captured_because;
        EXPECT_TRUE(table->mapping->by_repair());
        const std::string select = "SELECT string_agg(ROW(t.id, t.a, t.b)::text, ';' ORDER BY t.id) FROM ";
        EXPECT_EQ(on_target(select + primary_rows(*table)).text(0, 0), "(1,a,b);(2,c,d)");
        EXPECT_EQ(on_source(select + mirror_rows(*table)).text(0, 0), "(1,a,b);(2,c,d)");
    }
}

TEST_F(MappingTest, AColumnThatOnlySomeRowsOfASplitKeepIsCheckedOnTheData) {
    on_source("CREATE TABLE p (id int PRIMARY KEY, a text, b text); INSERT INTO p VALUES (1, 'a', 'b'), (2, 'c', NULL), (3, '', 'd')");
    on_target("CREATE TABLE pa (id int PRIMARY KEY, a text); CREATE TABLE pb (id int PRIMARY KEY, b text)");
    MappingRule first;
    first.source = {"public", "p"};
    first.target = {"public", "pa"};
    MappingRule second = first;
    second.target = {"public", "pb"};
    second.where = computed("a <> ''", {"a"});
    const auto p = load({first, second})->find({"public", "p", ""}, {}).table;
    ASSERT_TRUE(p->captured()) << p->not_captured_because;
    const Rows rows = on_source(p->mapping->reverse_check);
    EXPECT_EQ(rows.text(0, 0), "1");
    EXPECT_EQ(rows.text(0, 1), "(3)");
}

TEST_F(MappingTest, LiteralsThatMeanTheSameEverywhereAreFine) {
    rule_.columns["touched"] = computed("coalesce(changed, made, '2020-01-01 00:00+00')", {"changed", "made"});
    rule_.columns["extra"] = computed("replace(email, E'\\\\', '/') || 'it''s'", {"email"});
    EXPECT_THAT(load()->mapping_problems, IsEmpty());
}

TEST_F(MappingTest, ARuleThatChangesNothingIsNoMapping) {
    on_source("CREATE TABLE same (id int PRIMARY KEY, v text)");
    on_target("CREATE TABLE same (id int PRIMARY KEY, v text)");
    MappingRule rule;
    rule.source = rule.target = {"public", "same"};
    rule.columns = {{"v", plain("v")}};
    const auto table = load({rule})->find({"public", "same", ""}, {}).table;
    EXPECT_TRUE(table->captured());
    EXPECT_FALSE(table->mapped());
}

TEST_F(MappingTest, ATableUnderAMappedTablesNameOnTheMirrorIsNotItsTwin) {
    on_source("CREATE SCHEMA crm; CREATE TABLE crm.person (pid bigint PRIMARY KEY, email text NOT NULL, touched timestamptz NOT NULL, extra text)");
    const auto catalog = load();
    EXPECT_EQ(catalog->find({"crm", "person", ""}, {}).table->not_captured_because, "not_on_mirror");
}

TEST_F(MappingTest, WithoutAWayBackItIsCapturedForwardOnly) {
    rule_.reverse.clear();
    const auto forward = load()->find({"public", "customer", ""}, {}).table;
    EXPECT_TRUE(forward->captured());
    EXPECT_THAT(forward->mapping->no_reverse, HasSubstr("has expressions (email, touched) and no `reverse`"));
    const auto back = load(Side::target)->find({"crm", "person", ""}, {}).table;
    EXPECT_EQ(back->not_captured_because, "no_reverse");

    rule_.reverse = {{"changed", plain("touched")}};
    const auto half = load()->find({"public", "customer", ""}, {}).table;
    EXPECT_THAT(half->mapping->no_reverse, HasSubstr("gives email of public.customer"));
}

TEST_F(MappingTest, EveryMistakeIsNamedWithItsRuleAndWhatToDo) {
    struct Case {
        const char* name;
        std::function<void(MappingRule&)> spoil;
        const char* problem;
    };
    const Case cases[] = {
        {"no source", [](auto& it) { it.source.name = "nobody"; }, "the source has no table public.nobody"},
        {"no target", [](auto& it) { it.target.name = "nobody"; }, "the target has no table crm.nobody"},
        {"no target column", [](auto& it) { it.columns["mail"] = plain("email"); }, "columns.mail: crm.person has no such column"},
        {"no source column", [](auto& it) { it.columns["email"] = plain("mail"); }, "columns.email: public.customer has no column mail"},
        {"another type", [](auto& it) { it.columns["extra"] = plain("old"); },
         "columns.extra: is of type text, but old is of type integer; write old::text"},
        {"another type, computed", [](auto& it) { it.columns["extra"] = computed("old + 1", {"old"}); },
         "columns.extra: is of type integer, but text is wanted"},
        {"settings", [](auto& it) { it.columns["extra"] = computed("made::text", {"made"}); }, "columns.extra: is not immutable"},
        {"the clock", [](auto& it) { it.columns["touched"] = computed("coalesce(changed, made, now())", {"changed", "made"}); },
         "columns.touched: is not immutable"},
        {"a literal without its zone", [](auto& it) { it.columns["touched"] = computed("coalesce(changed, '2020-01-01')", {"changed"}); },
         "columns.touched: has a literal that sessions read differently"},
        {"an ambiguous date", [](auto& it) { it.columns["extra"] = computed("CASE WHEN changed AT TIME ZONE 'UTC' > '1/2/2020' THEN email END", {"changed", "email"}); },
         "columns.extra: has a literal that sessions read differently"},
        {"a backslash", [](auto& it) { it.columns["extra"] = computed("replace(email, '\\a', 'b')", {"email"}); },
         "columns.extra: has a literal that sessions read differently"},
        {"chance", [](auto& it) { it.columns["extra"] = computed("email || random()::text", {"email"}); }, "columns.extra: is not immutable"},
        {"an aggregate", [](auto& it) { it.columns["extra"] = computed("max(email)", {"email"}); }, "columns.extra: aggregate functions are not allowed"},
        {"no function", [](auto& it) { it.columns["extra"] = computed("lowr(email)", {"email"}); }, "columns.extra: function lowr(text) does not exist"},
        {"a set", [](auto& it) { it.columns["extra"] = computed("regexp_split_to_table(email, 'x')", {"email"}); }, "columns.extra: set-returning functions are not allowed"},
        {"a filter that is none", [](auto& it) { it.where = computed("old + 1", {"old"}); }, "where: is of type integer, but boolean is wanted"},
        {"a filter of nothing", [](auto& it) { it.where = computed("x > 1", {"x"}); }, "where: public.customer has no column x"},
        {"reverse of nothing", [](auto& it) { it.reverse["x"] = plain("email"); }, "reverse.x: public.customer has no such column"},
        {"reverse from nothing", [](auto& it) { it.reverse["email"] = plain("x"); }, "reverse.email: crm.person has no column x"},
        {"reverse of the key", [](auto& it) { it.reverse["id"] = computed("pid + 1", {"pid"}); }, "reverse.id: is part of the key"},
        {"reverse by chance", [](auto& it) { it.reverse["email"] = computed("email || random()::text", {"email"}); }, "reverse.email: is not immutable"},
        {"a column lost", [](auto& it) { it.ignore.clear(); }, "no column of the target holds old"},
        {"ignoring nothing", [](auto& it) { it.ignore.push_back("x"); }, "ignore: public.customer has no column x"},
        {"a column without value", [](auto& it) { it.columns.erase("touched"); }, "nothing is mapped to crm.person.touched"},
        {"a computed key", [](auto& it) { it.columns["pid"] = computed("id + 1", {"id"}); }, "no key of public.customer"},
    };
    for (const Case& it : cases) {
        MappingRule rule = rule_;
        it.spoil(rule);
        const auto catalog = load({rule});
        ASSERT_FALSE(catalog->mapping_problems.empty()) << it.name;
        EXPECT_THAT(catalog->mapping_problems.front(), HasSubstr("mapping " + rule.name() + ": ")) << it.name;
        EXPECT_THAT(catalog->mapping_problems, testing::Contains(HasSubstr(it.problem))) << it.name;
        const auto customer = catalog->find({"public", "customer", ""}, {}).table;
        EXPECT_EQ(customer->not_captured_because,
                  std::string(it.name) == "no source" ? "not_on_mirror" : "bad_mapping") << it.name;
    }
    EXPECT_EQ(on_source("SELECT count(*) FROM pg_class WHERE relname LIKE 'banyan%'").text(0, 0), "0");
}

}  // namespace
}  // namespace banyan::test
