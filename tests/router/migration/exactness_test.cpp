#include "router/migration/exactness.hpp"

#include <gtest/gtest.h>

namespace banyan::router {
namespace {

TEST(ExactnessOfATable, FollowsFromWhatIsKnownOfIt) {
    struct Case {
        const char* not_captured;
        const char* opaque;
        bool row_security;
        bool deep;
        bool suspect;
        Exactness exactness;
        const char* reason;
    };
    const Case cases[] = {
        {"", "", false, false, false, Exactness::row, ""},
        {"", "", false, true, false, Exactness::deep_capture, ""},
        {"", "rules", false, false, false, Exactness::statement, "rules"},
        {"", "rules", false, true, false, Exactness::deep_capture, ""},
        {"", "", true, false, false, Exactness::statement, "row_security"},
        {"", "", true, true, false, Exactness::deep_capture, ""},
        {"", "rules", false, true, true, Exactness::suspect, "copy"},
        {"no_key", "", false, false, false, Exactness::not_mirrored, "no_key"},
        {"no_key", "", false, false, true, Exactness::not_mirrored, "no_key"},
        {"excluded", "", false, false, false, Exactness::excluded, "excluded"},
    };
    for (const auto& it : cases) {
        Table table;
        table.not_captured_because = it.not_captured;
        table.opaque_because = it.opaque;
        table.row_security = it.row_security;
        table.deep = it.deep;
        const auto suspect = it.suspect ? std::optional(SuspectTable{1, 1, "copy", 5})
                                        : std::nullopt;
        const auto result = exactness_of(table, suspect);
        EXPECT_EQ(to_string(result.exactness), to_string(it.exactness));
        EXPECT_EQ(result.reason, it.reason);
    }
}

}  // namespace
}  // namespace banyan::router
