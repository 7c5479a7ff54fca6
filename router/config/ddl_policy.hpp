// [mirror] ddl: what becomes of changes of the schema while writes are mirrored.
#pragma once

#include <cstdint>

namespace banyan::router {

enum class DdlPolicy : std::uint8_t {
    mirror,        ///< run on the mirror too, in the same transaction
    primary_only,  ///< the operator brings the mirror's schema up to date
    refuse,        ///< an error for the client: 55000
};

}  // namespace banyan::router
