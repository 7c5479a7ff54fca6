#include "router/migration/exactness.hpp"

namespace banyan::router {

std::string_view to_string(Exactness exactness) {
    switch (exactness) {
        case Exactness::excluded:
            return "excluded";
        case Exactness::not_mirrored:
            return "not_mirrored";
        case Exactness::suspect:
            return "suspect";
        case Exactness::statement:
            return "statement";
        case Exactness::row:
            return "row";
        case Exactness::deep_capture:
            return "deep_capture";
    }
    return "";
}

ExactnessOf exactness_of(const Table& table, const std::optional<SuspectTable>& suspect) {
    if (!table.captured()) {
        const bool excluded = table.not_captured_because == "excluded";
        return {excluded ? Exactness::excluded : Exactness::not_mirrored,
                table.not_captured_because};
    }
    if (suspect) {
        return {Exactness::suspect, suspect->reason};
    }
    if (table.deep) {
        return {Exactness::deep_capture, ""};
    }
    if (!table.opaque_because.empty()) {
        return {Exactness::statement, table.opaque_because};
    }
    if (table.row_security) {
        return {Exactness::statement, "row_security"};
    }
    return {Exactness::row, ""};
}

}  // namespace banyan::router
