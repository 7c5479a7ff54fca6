// What a session's transaction has written of one table: so many keys, or, once they are too many, the
// ranges that hold them ("collapsed"; router/state/README.md, "Ranges").
#pragma once

#include <cstddef>
#include <cstdint>

#include "router/model/key_ranges.hpp"

namespace banyan::router {

struct WrittenTable {
    std::uint64_t keys = 0;  ///< in the transaction's list of writes
    KeyRanges rows;          ///< of a collapsed one: which
    bool collapsed = false;  ///< its keys are not kept any more
    bool removes = false;    ///< a collapsed one's, any of them
    std::size_t slot = 0;    ///< a collapsed one's: the write that stands for all of them
};

}  // namespace banyan::router
