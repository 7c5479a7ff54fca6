#include "router/shadow/digest.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace banyan::router {
namespace {

Digest digest(const std::vector<std::string>& rows) {
    Digest it;
    for (const std::string& row : rows) {
        it.add_row(row);
    }
    return it;
}

TEST(Digest, ComparesAsListOrAsMultiset) {
    using V = Digest::Verdict;
    struct Case {
        const char* name;
        std::vector<std::string> primary;
        std::vector<std::string> mirror;
        V ordered;
        V unordered;
    };
    const std::vector<Case> cases{
        {"both empty", {}, {}, V::equal, V::equal},
        {"same rows", {"a", "b"}, {"a", "b"}, V::equal, V::equal},
        {"other order", {"a", "b"}, {"b", "a"}, V::order_differs, V::equal},
        {"other row", {"a", "b"}, {"a", "c"}, V::rows_differ, V::rows_differ},
        {"a row less", {"a", "b"}, {"a"}, V::count_differs, V::count_differs},
        {"how often counts", {"a", "a", "b"}, {"a", "b", "b"}, V::rows_differ, V::rows_differ},
        {"pairs do not cancel out", {"a", "a"}, {"b", "b"}, V::rows_differ, V::rows_differ},
        {"row boundaries count", {"ab", "c"}, {"a", "bc"}, V::rows_differ, V::rows_differ},
        {"an empty row is a row", {""}, {}, V::count_differs, V::count_differs},
    };
    for (const Case& it : cases) {
        EXPECT_EQ(Digest::compare(digest(it.primary), digest(it.mirror), true), it.ordered)
            << it.name;
        EXPECT_EQ(Digest::compare(digest(it.primary), digest(it.mirror), false), it.unordered)
            << it.name;
    }
    EXPECT_EQ(digest({"a", "b"}).rows(), 2U);
}

}  // namespace
}  // namespace banyan::router
