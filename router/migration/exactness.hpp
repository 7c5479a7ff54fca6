// How exact the mirroring of a table is, in one word. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "router/catalog/catalog.hpp"
#include "router/state/ledger.hpp"

namespace banyan::router {

enum class Exactness : unsigned char {
    excluded,      ///< by configuration
    not_mirrored,  ///< its rows cannot be mirrored one by one
    suspect,       ///< rows may differ in ways not known by key, until it is verified
    statement,     ///< every write is opaque: it makes the table suspect
    row,           ///< by row; what is opaque (a function's write) makes it suspect
    deep_capture,  ///< by row, whatever writes it
};

std::string_view to_string(Exactness exactness);

struct ExactnessOf {
    Exactness exactness = Exactness::row;
    std::string reason;  ///< empty if it is exact
};

ExactnessOf exactness_of(const Table& table, const std::optional<SuspectTable>& suspect);

}  // namespace banyan::router
