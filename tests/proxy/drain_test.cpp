#include "proxy/drain.hpp"

#include <gtest/gtest.h>

namespace banyan::proxy {
namespace {

using std::chrono::milliseconds;

TEST(Drain, ASessionEndsAtItsBoundaryOrAtTheDeadline) {
    const DrainFacts idle{true, true, true};
    const DrainFacts fresh{true, true, false};
    const DrainFacts busy{true, false, true};
    const DrainFacts stranger{false, false, false};
    const Drain early{milliseconds(0), milliseconds(10000), false};
    const Drain handover{milliseconds(0), milliseconds(10000), true};
    const Drain later{first_transaction_grace, milliseconds(10000), true};
    const Drain late{milliseconds(10000), milliseconds(10000), true};
    struct Case {
        const char* name;
        DrainFacts session;
        Drain drain;
        bool ends;
    };
    for (const auto& each : {Case{"idle", idle, early, true},
                             {"idle, handover", idle, handover, true},
                             {"nothing run yet", fresh, early, true},
                             {"nothing run yet, handover", fresh, handover, false},
                             {"nothing run yet, handover, later", fresh, later, true},
                             {"in a transaction", busy, early, false},
                             {"in a transaction, handover", busy, later, false},
                             {"in a transaction, late", busy, late, true},
                             {"logging in", stranger, early, true},
                             {"logging in, handover", stranger, handover, false},
                             {"logging in, handover, later", stranger, later, true}}) {
        EXPECT_EQ(ends_now(each.session, each.drain), each.ends) << each.name;
    }
    // No patience at all: as if the deadline had passed.
    EXPECT_TRUE(ends_now(busy, {milliseconds(0), milliseconds(0), false}));
}

}  // namespace
}  // namespace banyan::proxy
