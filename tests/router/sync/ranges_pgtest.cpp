// Ranges of keys against a real server: that their order is the server's, and that verification
// reads and repairs the rows within them and no others.

#include "router/sync/table_sql.hpp"
#include "tests/router/sync/two_sides.hpp"

namespace banyan::test {
namespace {

class RangesTest : public TwoSides {
   protected:
    KeyRanges rows_of(const std::string& name, const std::vector<std::pair<int, int>>& ranges) {
        KeyRanges all = KeyRanges::none(leading_key_type(*table(name)));
        for (const auto& [low, high] : ranges) {
            for (int id = low; id <= high; ++id) {
                all.add(bigint_key(0, id).bytes);
            }
        }
        return all;
    }
    TableVerification verify_rows(const std::string& name, bool repair, const KeyRanges& rows) {
        const std::atomic<bool> cancel{false};
        return verify_table(
            {config_, *ledger_, [] { return Phase::dual_write; }, [this] { return catalog_; }},
            *table(name), repair, nullptr, cancel, rows);
    }
};

struct Type {
    const char* name;
    const char* values;  ///< VALUES, in no order
};

// One range over every two neighbours must hold exactly the values the server puts between them.
TEST_F(RangesTest, TheOrderOfTheBoundsIsTheServers) {
    const Type types[] = {
        {"boolean", "(true), (false)"},
        {"smallint", "(0), (-1), (1), (-32768), (32767), (255), (256), (-256)"},
        {"integer", "(0), (-1), (1), (-2147483648), (2147483647), (65536), (-65536), (255)"},
        {"bigint",
         "(0), (-1), (1), (-9223372036854775808), (9223372036854775807), (4294967296),"
         " (-4294967296)"},
        {"oid", "(0), (1), (2147483647), (2147483648), (4294967295)"},
        {"uuid",
         "('00000000-0000-0000-0000-000000000000'), ('ffffffff-ffff-ffff-ffff-ffffffffffff'),"
         " ('7fffffff-0000-4000-8000-000000000000'), ('80000000-0000-4000-8000-000000000000'),"
         " ('80000000-0000-4000-8000-000000000001')"},
        {"date",
         "('infinity'), ('-infinity'), ('4713-01-01 BC'), ('1999-12-31'), ('2000-01-01'),"
         " ('2000-01-02'), ('5874897-12-31'), ('0044-03-15 BC')"},
        {"timestamp",
         "('infinity'), ('-infinity'), ('4713-01-01 00:00:00 BC'), ('1999-12-31 23:59:59.999999'),"
         " ('2000-01-01'), ('2000-01-01 00:00:00.000001'), ('294276-12-31 23:59:59.999999')"},
        {"timestamptz",
         "('infinity'), ('-infinity'), ('4713-01-01 12:00:00+00 BC'), ('1999-12-31 23:59:59+00'),"
         " ('2000-01-01 00:00:00+00'), ('294276-12-31 00:00:00+00'), ('1969-07-20 20:17:40+00')"},
        {"bytea",
         "(''), ('\\x00'), ('\\x0000'), ('\\x01'), ('\\x7f'), ('\\x80'), ('\\x80ff'), ('\\xff'), "
         "('\\xff00')"},
    };
    int number = 0;
    for (const Type& type : types) {
        SCOPED_TRACE(type.name);
        const std::string name = "k" + std::to_string(++number);
        on_both("CREATE TABLE " + name + " (k " + type.name +
                ", b int, PRIMARY KEY (k, b));"
                "INSERT INTO " +
                name + " SELECT v::" + type.name + ", 1 FROM (VALUES " + type.values + ") AS x(v)");
        load();
        const auto found = table(name);
        const auto oid = leading_key_type(*found);
        ASSERT_NE(oid, 0U);
        auto source = source_cluster->connect(database_);
        const Rows sorted = must(source.exec("SELECT k, b FROM public." + name + " ORDER BY k", {}, true));
        ASSERT_GT(sorted.size(), 1);
        for (int low = 0; low < sorted.size(); ++low) {
            for (int high = low; high < sorted.size(); ++high) {
                KeyRanges rows = KeyRanges::none(oid);
                const std::string ends[] = {row_key(*found, sorted, low, 0).bytes,
                                            row_key(*found, sorted, high, 0).bytes};
                const auto one = [&](int end) {
                    KeyRanges point = KeyRanges::none(oid);
                    point.add(ends[end]);
                    return end == 0 ? point.ranges().front().low : point.ranges().front().high;
                };
                const auto made = KeyRanges::from(oid, {{one(0), one(1)}});
                ASSERT_TRUE(made) << low << " " << high << ": the server puts them in order";
                for (int i = 0; i < sorted.size(); ++i) {
                    EXPECT_EQ(made->contains(row_key(*found, sorted, i, 0).bytes),
                              low <= i && i <= high);
                }
            }
        }
        // And the bounds come back to the server as what they were.
        KeyRanges ends = KeyRanges::none(oid);
        ends.add(row_key(*found, sorted, 0, 0).bytes);
        const auto seen = verify_rows(name, false, ends);
        EXPECT_EQ(seen.state, "equal") << seen.error;
        EXPECT_EQ(seen.rows_compared, 1U);
        const auto whole = KeyRanges::from(
            oid, {{ends.ranges().front().low, [&] {
                       KeyRanges last = KeyRanges::none(oid);
                       last.add(row_key(*found, sorted, sorted.size() - 1, 0).bytes);
                       return last.ranges().front().high;
                   }()}});
        ASSERT_TRUE(whole);
        EXPECT_EQ(verify_rows(name, false, *whole).rows_compared,
                  static_cast<std::uint64_t>(sorted.size()));
    }
}

TEST_F(RangesTest, OtherTypesAndMappedKeysHaveNoRanges) {
    on_both(
        "CREATE DOMAIN positive AS int; CREATE TABLE d (k positive PRIMARY KEY);"
        "CREATE TABLE t (k text PRIMARY KEY); CREATE TABLE n (k numeric PRIMARY KEY)");
    load();
    for (const char* name : {"d", "t", "n"}) {
        EXPECT_TRUE(KeyRanges::none(leading_key_type(*table(name))).all()) << name;
    }
}

TEST_F(RangesTest, OnlyTheRangesAreComparedAndRepaired) {
    on_both(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text);"
        "INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 9000) i");
    load();
    on_target(
        "UPDATE t SET v = 'outside' WHERE id IN (1, 999, 2001, 6500, 9000);"
        "UPDATE t SET v = 'inside' WHERE id IN (1000, 1500, 2000); DELETE FROM t WHERE id = 7000;"
        "INSERT INTO t VALUES (9501, 'extra, inside'), (9502, 'extra, outside')");
    const KeyRanges rows = rows_of("t", {{1000, 2000}, {7000, 7100}, {9400, 9501}});
    EXPECT_EQ(rows.ranges().size(), 3U);
    const auto seen = verify_rows("t", true, rows);
    EXPECT_EQ(seen.state, "different") << seen.error;
    EXPECT_EQ(seen.different, 3U);
    EXPECT_EQ(seen.missing, 1U);
    EXPECT_EQ(seen.extra, 1U);
    EXPECT_EQ(seen.rows_compared, 1001U + 101U);
    EXPECT_EQ(ledger_->dirty_count(), 5U);
    // A table whose key has another type by now is compared as a whole.
    KeyRanges stale = KeyRanges::none(23);
    EXPECT_EQ(verify_rows("t", false, stale).rows_compared, 9000U);
}

}  // namespace
}  // namespace banyan::test
