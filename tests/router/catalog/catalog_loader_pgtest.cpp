#include "router/catalog/catalog_loader.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/postgres_cluster.hpp"

namespace banyan::test {
namespace {

using namespace banyan::router;  // NOLINT

class CatalogLoaderTest : public ::testing::Test {
   protected:
    static void SetUpTestSuite() {
        cluster = std::make_unique<PostgresCluster>(std::vector<std::string>{"fsync=off"});
    }
    static void TearDownTestSuite() { cluster.reset(); }

    // Two databases of one server: the loader cannot tell.
    void SetUp() override {
        static int count = 0;
        name_ = "case" + std::to_string(++count);
        cluster->create_database(name_ + "s");
        cluster->create_database(name_ + "t");
        directory_ = std::filesystem::temp_directory_path() /
                     ("banyan-catalog-" + std::to_string(::getpid()) + name_);
        std::filesystem::create_directories(directory_);
        auto db = StateDb::open(directory_, StateDb::Durability::process);
        ASSERT_TRUE(db);
        db_ = std::move(*db);
    }
    void TearDown() override {
        db_.reset();
        std::filesystem::remove_all(directory_);
    }
    void on_source(const std::string& sql) { cluster->run(sql, name_ + "s"); }
    void on_target(const std::string& sql) { cluster->run(sql, name_ + "t"); }
    void on_both(const std::string& sql) {
        on_source(sql);
        on_target(sql);
    }
    std::shared_ptr<const Catalog> load(const CatalogOptions& options = {},
                                        Side primary = Side::source) {
        auto source = cluster->connect(name_ + "s");
        auto target = cluster->connect(name_ + "t");
        auto loaded = primary == Side::source
                          ? load_catalog(source, target, primary, *db_, options, 7)
                          : load_catalog(target, source, primary, *db_, options, 7);
        if (!loaded) {
            throw std::runtime_error(loaded.error().message);
        }
        return *loaded;
    }
    static Catalog::Found find(const Catalog& catalog, const std::string& name) {
        return catalog.find({"public", name, ""}, {});
    }
    static std::string reason(const Catalog& catalog, const std::string& name) {
        const auto found = find(catalog, name);
        return found.table == nullptr ? "(no table)" : found.table->not_captured_because;
    }
    static std::vector<std::string> key(const Table& table) {
        std::vector<std::string> names;
        for (const std::size_t column : table.key) {
            names.push_back(table.columns.at(column).name);
        }
        return names;
    }

    inline static std::unique_ptr<PostgresCluster> cluster;
    std::string name_;
    std::filesystem::path directory_;
    std::unique_ptr<StateDb> db_;
};

using Names = std::vector<std::string>;

TEST_F(CatalogLoaderTest, ReadsColumnsInOrderWithTheirKinds) {
    on_both(R"(CREATE TABLE t (gone int, id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz(3) NOT NULL, "Odd ""x" varchar(5), twice bigint GENERATED ALWAYS AS (id * 2) STORED);
        ALTER TABLE t DROP COLUMN gone)");
    const auto catalog = load();
    EXPECT_EQ(catalog->version, 7U);
    EXPECT_EQ(catalog->side, Side::source);
    const auto table = find(*catalog, "t").table;
    ASSERT_NE(table, nullptr);
    EXPECT_NE(table->id, 0U);
    EXPECT_TRUE(table->captured());
    ASSERT_EQ(table->columns.size(), 4U);
    EXPECT_EQ(table->columns[0].name, "id");
    EXPECT_EQ(table->columns[0].identity, Identity::always);
    EXPECT_TRUE(table->columns[0].not_null);
    EXPECT_EQ(table->columns[1].type_name, "timestamp(3) with time zone");
    EXPECT_EQ(table->columns[2].name, "Odd \"x");
    EXPECT_TRUE(table->columns[3].generated);
    EXPECT_EQ(key(*table), Names{"id"});
}

TEST_F(CatalogLoaderTest, DecidesHowEachTypeTravels) {
    on_both(R"(
        CREATE TYPE mood AS ENUM ('a'); CREATE TYPE pair AS (a int, b date);
        CREATE DOMAIN name_d AS text; CREATE DOMAIN day_d AS date; CREATE DOMAIN mood_d AS mood;
        CREATE TYPE floats AS RANGE (subtype = float8);
        CREATE TABLE t (id int PRIMARY KEY, i int, ts timestamptz[], j jsonb, x xml, c "char", r int4range,
            rm int4multirange, m mood, ma mood[], md mood_d, p pair, pa pair[], d day_d, da day_d[],
            na name_d[], f floats, rc regclass, rca regclass[], pc pg_class))");
    struct Case {
        const char* name;
        bool binary;
        bool fragile;
        bool portable = true;
    };
    const std::vector<Case> cases = {
        {"i", true, false},   {"ts", true, false},  {"j", true, false},  {"x", true, false},
        {"c", true, false},   {"r", true, false},   {"rm", true, false}, {"m", false, false},
        {"ma", false, false, false}, {"md", false, false}, {"p", false, true, false},
        {"pa", false, true, false}, {"d", true, false}, {"da", false, true, false},
        {"na", false, false, false}, {"f", true, false}, {"rc", false, true, false},
        {"rca", false, true, false}, {"pc", false, true, false}};
    const auto catalog = load();
    const auto table = find(*catalog, "t").table;
    ASSERT_EQ(table->columns.size(), cases.size() + 1);
    for (std::size_t i = 0; i < cases.size(); ++i) {
        const Column& column = table->columns[i + 1];
        EXPECT_EQ(column.name, cases[i].name);
        EXPECT_EQ(column.binary, cases[i].binary) << column.name;
        EXPECT_EQ(column.fragile, cases[i].fragile) << column.name;
        EXPECT_EQ(column.portable, cases[i].portable) << column.name;
    }
}

TEST_F(CatalogLoaderTest, KnowsWhatBothSidesFillInAlike) {
    on_both(R"(
        CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN filled AS int DEFAULT 7; CREATE DOMAIN plain AS int;
        CREATE FUNCTION one() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
        CREATE TABLE t (id int PRIMARY KEY, nothing text, zero int DEFAULT 0, minus int DEFAULT -1,
            cast_one numeric(10,2) DEFAULT 1, word varchar(5) DEFAULT 'x', mood mood DEFAULT 'a',
            list text[] DEFAULT '{}', json jsonb DEFAULT '{"a": [1]}', day date DEFAULT '2024-01-02',
            plain plain, own plain DEFAULT 3,
            clock timestamptz DEFAULT now(), sql_clock date DEFAULT current_date, number serial, who text DEFAULT current_user,
            random float8 DEFAULT random(), identity int GENERATED BY DEFAULT AS IDENTITY, filled filled,
            users int DEFAULT one(), io date DEFAULT 'now'::text::date);
        CREATE TABLE differs (id int PRIMARY KEY, v int, w int);
        CREATE TABLE wider (id int PRIMARY KEY))");
    on_target("ALTER TABLE differs ALTER v SET DEFAULT 1, ALTER w SET DEFAULT 1");
    on_source("ALTER TABLE differs ALTER w SET DEFAULT 2");
    on_target("ALTER TABLE wider ADD own int; ALTER TABLE t ADD twice int GENERATED ALWAYS AS (id * 2) STORED");
    for (const Side primary : {Side::source, Side::target}) {
        const auto catalog = load({}, primary);
        const auto table = find(*catalog, "t").table;
        for (std::size_t i = 1; i < table->columns.size(); ++i) {
            if (!table->columns[i].generated) {
                EXPECT_EQ(table->columns[i].omittable, i < 12) << table->columns[i].name;
            }
        }
        EXPECT_TRUE(table->same_columns);
        EXPECT_FALSE(find(*catalog, "wider").table->same_columns);
        const auto differs = find(*catalog, "differs").table;
        EXPECT_TRUE(differs->same_columns);
        EXPECT_FALSE(differs->columns[1].omittable);
        EXPECT_FALSE(differs->columns[2].omittable);
    }
}

TEST_F(CatalogLoaderTest, ChoosesThePrimaryKeyOrElseTheSmallestUniqueIndex) {
    on_both(R"(
        CREATE TYPE mood AS ENUM ('a');
        CREATE TABLE pk (a int UNIQUE NOT NULL, b text, c int, PRIMARY KEY (c, b));
        CREATE TABLE uq (a int NOT NULL, b int NOT NULL, c int NOT NULL, UNIQUE (a, b), UNIQUE (c) INCLUDE (a));
        CREATE TABLE en (m mood PRIMARY KEY);
        CREATE TABLE none (a int UNIQUE, b int NOT NULL, c int NOT NULL, d int NOT NULL UNIQUE DEFERRABLE);
        CREATE UNIQUE INDEX ON none (b) WHERE b > 0; CREATE UNIQUE INDEX ON none ((c + 1)))");
    const auto catalog = load();
    EXPECT_EQ(key(*find(*catalog, "pk").table), (Names{"c", "b"}));
    EXPECT_EQ(key(*find(*catalog, "uq").table), (Names{"c"}));
    EXPECT_EQ(key(*find(*catalog, "en").table), (Names{"m"}));
    EXPECT_EQ(reason(*catalog, "none"), "no_key");
}

TEST_F(CatalogLoaderTest, NamesWhatStandsInTheWay) {
    on_both(R"(
        CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TYPE pair AS (a int, b int);
        CREATE TABLE nokey (a int);
        CREATE TABLE ruled (a int PRIMARY KEY); CREATE RULE r AS ON DELETE TO ruled DO INSTEAD NOTHING;
        CREATE TABLE base (a int PRIMARY KEY); CREATE TABLE derived (PRIMARY KEY (a)) INHERITS (base);
        CREATE TABLE blind_key (a text COLLATE blind PRIMARY KEY);
        CREATE TABLE pair_key (a pair PRIMARY KEY);
        CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY))");
    on_source("CREATE TABLE lonely (a int PRIMARY KEY);"
              "CREATE TABLE cols (a int PRIMARY KEY, b int); CREATE TABLE types (a int PRIMARY KEY, b varchar(3));"
              "CREATE TABLE strict (a int PRIMARY KEY); CREATE TABLE relaxed (a int PRIMARY KEY);"
              "CREATE TABLE keys (a int PRIMARY KEY, b int NOT NULL);"
              "CREATE TABLE gen (a int PRIMARY KEY, b int)");
    on_target("CREATE VIEW lonely AS SELECT 1 AS a;"
              "CREATE TABLE cols (a int PRIMARY KEY); CREATE TABLE types (a int PRIMARY KEY, b varchar(4));"
              "CREATE TABLE strict (a int PRIMARY KEY, more int NOT NULL);"
              "CREATE TABLE relaxed (more int NOT NULL DEFAULT 1, a int PRIMARY KEY, least int);"
              "CREATE TABLE keys (a int, b int PRIMARY KEY);"
              "CREATE TABLE gen (a int PRIMARY KEY, b int GENERATED ALWAYS AS (a) STORED)");
    const std::vector<std::pair<const char*, const char*>> cases = {
        {"nokey", "no_key"},        {"ruled", ""},                {"base", ""},
        {"derived", ""},            {"blind_key", "fragile_key"}, {"pair_key", "fragile_key"},
        {"unlogged", ""},           {"lonely", "not_on_mirror"},  {"cols", "columns_differ"},
        {"types", "columns_differ"}, {"strict", "columns_differ"}, {"relaxed", ""},
        {"keys", "key_differs"},    {"gen", "columns_differ"}};
    for (const Side primary : {Side::source, Side::target}) {
        const auto catalog = load({}, primary);
        for (const auto& [name, expected] : cases) {
            if (primary == Side::source || std::string(name) != "lonely") {
                EXPECT_EQ(reason(*catalog, name), expected) << name;
            }
        }
        EXPECT_EQ(find(*catalog, "relaxed").table->columns.size(), 1U);
        EXPECT_EQ(find(*catalog, "ruled").table->opaque_because, "rules");
        EXPECT_EQ(find(*catalog, "base").table->opaque_because, "inheritance");
        EXPECT_EQ(find(*catalog, "derived").table->opaque_because, "inheritance");
        EXPECT_EQ(find(*catalog, "unlogged").table->opaque_because, "");
    }
}

TEST_F(CatalogLoaderTest, TheKeyIsTheSameWhicheverSideIsPrimary) {
    on_source("CREATE TABLE t (a int NOT NULL, b int NOT NULL, c int NOT NULL, PRIMARY KEY (a, b), UNIQUE (c));"
              "CREATE TABLE u (a int PRIMARY KEY, b int NOT NULL UNIQUE)");
    on_target("CREATE TABLE t (a int NOT NULL, b int NOT NULL, c int NOT NULL, UNIQUE (b, a), PRIMARY KEY (c));"
              "CREATE TABLE u (a int NOT NULL, b int PRIMARY KEY)");
    for (const Side primary : {Side::source, Side::target}) {
        const auto catalog = load({}, primary);
        EXPECT_EQ(key(*find(*catalog, "t").table), (Names{"a", "b"}));
        EXPECT_EQ(key(*find(*catalog, "u").table), (Names{"b"}));
    }
}

TEST_F(CatalogLoaderTest, PartitionsBelongToTheirRoot) {
    on_both(R"(
        CREATE TABLE p (a int, b int, PRIMARY KEY (a, b)) PARTITION BY RANGE (b);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE p2 PARTITION OF p DEFAULT PARTITION BY LIST (a);
        CREATE TABLE p21 PARTITION OF p2 DEFAULT;
        CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER g BEFORE INSERT ON p1 FOR EACH ROW EXECUTE FUNCTION nothing();
        CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
        CREATE TABLE q (a int) PARTITION BY LIST (a);
        CREATE FOREIGN TABLE q1 PARTITION OF q DEFAULT SERVER s)");
    const auto catalog = load();
    EXPECT_EQ(catalog->tables().size(), 2U);
    const auto root = find(*catalog, "p").table;
    EXPECT_TRUE(root->partitioned);
    EXPECT_TRUE(root->captured());
    EXPECT_TRUE(root->user_triggers);
    EXPECT_EQ(find(*catalog, "p21").table, root);
    EXPECT_TRUE(find(*catalog, "p21").leaf);
    EXPECT_EQ(reason(*catalog, "q"), "foreign_table");
}

TEST_F(CatalogLoaderTest, ReadsCascadesTriggersAndRowSecurity) {
    on_both(R"(
        CREATE TABLE a (x int, y int, v int UNIQUE, PRIMARY KEY (x, y));
        CREATE TABLE b (id int PRIMARY KEY, ax int, ay int, f int REFERENCES a (v),
            FOREIGN KEY (ay, ax) REFERENCES a (y, x) ON DELETE CASCADE ON UPDATE SET NULL);
        CREATE TABLE p (id int PRIMARY KEY, v int REFERENCES a (v) ON DELETE SET DEFAULT) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF p DEFAULT;
        CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER g BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION nothing();
        CREATE TRIGGER g BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION nothing();
        ALTER TABLE a DISABLE TRIGGER g; ALTER TABLE b ENABLE ROW LEVEL SECURITY)");
    const auto catalog = load();
    const auto a = find(*catalog, "a").table;
    const auto b = find(*catalog, "b").table;
    ASSERT_EQ(a->cascades.size(), 2U);
    const Cascade& cascade = a->cascades[0].child == b->oid ? a->cascades[0] : a->cascades[1];
    const Cascade& other_cascade = a->cascades[0].child == b->oid ? a->cascades[1] : a->cascades[0];
    EXPECT_EQ(cascade.child, b->oid);
    EXPECT_EQ(cascade.child_columns, (Names{"ay", "ax"}));
    EXPECT_EQ(cascade.parent_columns, (Names{"y", "x"}));
    EXPECT_EQ(cascade.on_delete, ReferentialAction::cascade);
    EXPECT_EQ(cascade.on_update, ReferentialAction::set_null);
    EXPECT_EQ(other_cascade.child, find(*catalog, "p").table->oid);
    EXPECT_EQ(other_cascade.on_delete, ReferentialAction::set_default);
    EXPECT_EQ(other_cascade.on_update, ReferentialAction::none);
    EXPECT_FALSE(a->user_triggers);
    EXPECT_TRUE(b->user_triggers);
    EXPECT_FALSE(a->row_security);
    EXPECT_TRUE(b->row_security);
}

TEST_F(CatalogLoaderTest, ReadsOtherRelationsFunctionsAndExclusions) {
    on_both(R"(
        CREATE TABLE t (id int PRIMARY KEY); CREATE VIEW v AS SELECT * FROM t;
        CREATE MATERIALIZED VIEW m AS SELECT * FROM t; CREATE SEQUENCE s;
        CREATE TABLE out_p (id int PRIMARY KEY) PARTITION BY LIST (id);
        CREATE TABLE out_1 PARTITION OF out_p DEFAULT;
        CREATE SCHEMA banyan; CREATE TABLE banyan.backfill (id int PRIMARY KEY);
        CREATE FUNCTION "Writes"() RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION reads() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1')");
    const auto catalog = load({.exclude = {"public.out_p"}, .roles = {}});
    EXPECT_EQ(find(*catalog, "v").relkind, 'v');
    EXPECT_EQ(find(*catalog, "m").relkind, 'm');
    EXPECT_EQ(find(*catalog, "s").relkind, 'S');
    EXPECT_EQ(find(*catalog, "out_p").relkind, 'x');
    EXPECT_EQ(find(*catalog, "out_1").relkind, 'x');
    EXPECT_EQ(catalog->tables().size(), 1U);
    EXPECT_TRUE(catalog->is_volatile("writes"));
    EXPECT_FALSE(catalog->is_volatile("reads"));
}

TEST_F(CatalogLoaderTest, ReadsSelectPrivileges) {
    on_both("CREATE TABLE t (id int PRIMARY KEY)");
    on_source("CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN;"
              "GRANT SELECT ON t TO reader; GRANT INSERT ON t TO writer");
    for (const Names& roles : {Names{}, Names{"reader", "writer", "postgres"}}) {
        const auto catalog = load({.exclude = {}, .roles = roles});
        const Oid oid = find(*catalog, "t").table->oid;
        EXPECT_TRUE(catalog->may_select("reader", oid));
        EXPECT_TRUE(catalog->may_select("postgres", oid));
        EXPECT_FALSE(catalog->may_select("writer", oid));
    }
    on_source("DROP OWNED BY reader, writer; DROP ROLE reader, writer");
}

TEST_F(CatalogLoaderTest, TableIdsAreStable) {
    on_both("CREATE TABLE t (id int PRIMARY KEY)");
    const TableId id = find(*load(), "t").table->id;
    on_both("DROP TABLE t; CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)");
    const auto catalog = load();
    EXPECT_EQ(find(*catalog, "t").table->id, id);
    EXPECT_NE(find(*catalog, "a").table->id, id);
    EXPECT_EQ(find(*load({}, Side::target), "t").table->id, id);
}

}  // namespace
}  // namespace banyan::test
