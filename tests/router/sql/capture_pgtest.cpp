// Rewritten statements against a real server: what was planned is what happens.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "router/sql/capture.hpp"
#include "router/sql/functions.hpp"
#include "sample_catalog.hpp"
#include "tests/support/postgres_cluster.hpp"

namespace banyan::router {
namespace {

class CaptureOnServer : public testing::Test {
   protected:
    static void SetUpTestSuite() { cluster_ = new test::PostgresCluster(); }
    static void TearDownTestSuite() {
        delete cluster_;
        cluster_ = nullptr;
    }

    CaptureOnServer() : connection_(cluster_->connect()) {
        run("DROP SCHEMA public CASCADE; CREATE SCHEMA public; SET search_path = public");
        run(sample_schema);
        run("INSERT INTO item SELECT i, i, i FROM generate_series(1, 9) i;"
            "INSERT INTO pair SELECT i, i * 10, 0 FROM generate_series(1, 9) i;"
            "INSERT INTO parent SELECT i, i * 100, 0 FROM generate_series(1, 3) i;"
            "INSERT INTO child SELECT i, i % 3 + 1 FROM generate_series(1, 9) i;"
            "INSERT INTO grandchild SELECT i, i % 9 + 1 FROM generate_series(1, 18) i;"
            "INSERT INTO coded SELECT i, (i % 3 + 1) * 100 FROM generate_series(1, 6) i;"
            "INSERT INTO tree SELECT i, nullif(i / 2, 0) FROM generate_series(1, 63) i;"
            "INSERT INTO leafy SELECT i, i FROM generate_series(1, 63) i;");
    }

    Rows run(const std::string& sql) {
        auto result = connection_.exec(sql);
        EXPECT_TRUE(result) << sql << ": " << (result ? "" : result.error().message);
        return result ? std::move(*result) : Rows(nullptr);
    }

    std::multiset<std::string> first_column(const std::string& sql) {
        const Rows rows = run(sql);
        std::multiset<std::string> values;
        for (int row = 0; row < rows.size(); ++row) {
            values.emplace(rows.text(row, 0));
        }
        return values;
    }

    CapturePlan plan(const std::string& sql) {
        static const Catalog catalog = sample_catalog();
        const auto query = parse_query(sql);
        auto outcome =
            plan_capture(*query, query->statements.at(0), catalog, {"public"}, "app", {});
        if (auto* reason = std::get_if<NotCaptured>(&outcome); reason != nullptr) {
            ADD_FAILURE() << sql << ": " << reason->reason;
            return {};
        }
        return std::get<CapturePlan>(outcome);
    }

    /// Runs a statement as planned; the keys that the plan says left each table must be those that
    /// did, and every row changed otherwise must be among the ones shown.
    void check_deleted(const std::string& sql, const std::vector<std::string>& tables) {
        SCOPED_TRACE(sql);
        const CapturePlan planned = plan(sql);
        std::map<std::string, std::set<std::string>> there;
        std::map<std::string, std::set<std::string>> expected_gone;
        for (const std::string& table : tables) {
            const auto keys = first_column("SELECT id FROM " + table);
            there[table].insert(keys.begin(), keys.end());
        }
        for (const BeforeQuery& before : planned.before) {
            const auto keys = first_column(before.sql);
            if (before.erases) {
                expected_gone[before.table->name].insert(keys.begin(), keys.end());
            }
        }
        run(planned.sql);
        for (const std::string& table : tables) {
            const auto left = first_column("SELECT id FROM " + table);
            std::set<std::string> gone = there[table];
            for (const std::string& key : left) {
                gone.erase(key);
            }
            EXPECT_EQ(gone, expected_gone[table]) << table;
        }
    }

    static test::PostgresCluster* cluster_;
    Connection connection_;
};

test::PostgresCluster* CaptureOnServer::cluster_ = nullptr;

TEST_F(CaptureOnServer, appended_columns_are_accepted_by_every_form_of_statement) {
    for (const char* sql :
         {"INSERT INTO item VALUES (100, 1, 2)", "INSERT INTO item AS i (id) VALUES (101), (102)",
          "INSERT INTO item SELECT 103 -- one",
          "INSERT INTO public.item (id) VALUES (104) RETURNING *",
          "INSERT INTO item (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name "
          "WHERE item.id = 1 RETURNING 'x'",
          "INSERT INTO item (id) VALUES (1) ON CONFLICT DO NOTHING",
          "INSERT INTO item (id) SELECT 200 LIMIT 1",
          "WITH w AS (SELECT 300) INSERT INTO item (id) TABLE w", "UPDATE item SET name = 1",
          "UPDATE item AS x SET name = 1 FROM pair WHERE x.id = a",
          "UPDATE item x SET (name, \"Odd \"\"Name\") = (SELECT 1, 2) RETURNING x.*",
          "DELETE FROM item USING pair p WHERE id = p.a AND p.b = 10 RETURNING p.*",
          "DELETE FROM public.item WHERE id = 2;"}) {
        run(plan(sql).sql);
    }
}

TEST_F(CaptureOnServer, a_bare_name_that_from_repeats_is_still_captured) {
    run("DROP SCHEMA IF EXISTS other CASCADE; CREATE SCHEMA other; CREATE TABLE other.pair (a "
        "int)");
    run(plan("UPDATE pair SET v = 1 FROM other.pair WHERE public.pair.a = other.pair.a").sql);
}

TEST_F(CaptureOnServer, deletes_take_along_exactly_the_rows_foretold) {
    run("DELETE FROM coded");  // its foreign key would refuse the deletes
    check_deleted("DELETE FROM parent WHERE id = 2", {"parent", "child", "grandchild"});
    check_deleted("WITH w AS (SELECT 3 AS n) DELETE FROM parent p USING w WHERE p.id = w.n",
                  {"parent", "child", "grandchild"});
    check_deleted("DELETE FROM tree WHERE id = 5", {"tree", "leafy"});
    check_deleted("DELETE FROM tree t USING item i WHERE t.id = i.id AND i.id IN (4, 6)",
                  {"tree", "leafy"});
}

TEST_F(CaptureOnServer, a_changed_key_is_seen_before_it_changes) {
    const CapturePlan planned = plan("UPDATE pair SET a = a + 100 WHERE b IN (10, 20)");
    ASSERT_EQ(planned.before.size(), 1U);
    EXPECT_EQ(first_column(planned.before[0].sql), (std::multiset<std::string>{"10", "20"}));
    EXPECT_EQ(first_column(planned.sql), (std::multiset<std::string>{"101", "102"}));
}

TEST_F(CaptureOnServer, rows_that_follow_a_referenced_column_are_foretold) {
    const CapturePlan planned = plan("UPDATE parent SET code = 7 WHERE id = 1");
    ASSERT_EQ(planned.before.size(), 2U);
    const auto keys = first_column(planned.before[1].sql);
    run(planned.sql);
    EXPECT_EQ(keys, first_column("SELECT id FROM coded WHERE code = 7"));
}

TEST_F(CaptureOnServer, every_volatile_builtin_function_of_the_server_is_known) {
    for (const std::string& name : first_column(
             "SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v' AND prokind = 'f' AND "
             "pronamespace = 'pg_catalog'::regnamespace AND prorettype NOT IN "
             "('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype) AND proname !~ "
             "'handler$|^plpgsql_|^bernoulli$|^system$'")) {
        EXPECT_TRUE(builtin_is_volatile(name)) << name;
        EXPECT_NE(builtin_nature(name), BuiltinNature::plain) << name;
    }
}

}  // namespace
}  // namespace banyan::router
