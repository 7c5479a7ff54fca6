#include "router/state/recent_writes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace banyan::router {
namespace {

using namespace std::chrono_literals;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

TEST(RecentWrites, KnowsWhichTablesWereWrittenSince) {
    const auto start = RecentWrites::Clock::now();
    RecentWrites writes;
    CommitIntent first;
    for (const RowKey& key : {RowKey{1, "a"}, RowKey{2, "a"}, RowKey{1, "b"}}) {
        first.writes.push_back(KeyWrite{key});
    }
    CommitIntent second;
    second.writes.push_back(KeyWrite{RowKey{2, "c"}});
    second.tables.push_back(TableWrite{3, false, "copy"});
    second.suspects.push_back(SuspectMark{4, "opaque"});
    writes.note(first, start);
    writes.note(second, start + 10s);
    EXPECT_THAT(writes.since(start), UnorderedElementsAre(1, 2, 3, 4));
    EXPECT_THAT(writes.since(start + 1ms), UnorderedElementsAre(2, 3, 4));
    EXPECT_THAT(writes.since(start + 11s), IsEmpty());
}

}  // namespace
}  // namespace banyan::router
