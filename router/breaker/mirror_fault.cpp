#include "router/breaker/mirror_fault.hpp"

namespace banyan::router {

std::optional<MirrorFault> fault_of(MirrorDoing doing, std::string_view sqlstate) {
    if (sqlstate.empty() || sqlstate.starts_with("08")) {
        return MirrorFault::unreachable;
    }
    if (sqlstate == "25006") {
        return MirrorFault::read_only;
    }
    if (sqlstate == "53100") {
        return MirrorFault::disk_full;
    }
    if (sqlstate == "53300" && doing == MirrorDoing::connection) {
        return MirrorFault::connections;
    }
    if (sqlstate.starts_with("53")) {
        return MirrorFault::resources;
    }
    // Not 57P05, 57014: a timeout of one session, or one query that was cancelled.
    if (sqlstate.starts_with("57P") && sqlstate != "57P05") {
        return MirrorFault::unavailable;
    }
    if (sqlstate.starts_with("58") || sqlstate.starts_with("XX")) {
        return MirrorFault::broken;
    }
    if (doing == MirrorDoing::begin) {
        // A hot standby refuses READ WRITE with 0A000 (check_transaction_read_only). Whatever else
        // BEGIN fails with cannot be the client's doing either.
        return sqlstate == "0A000" || sqlstate.starts_with("25") ? MirrorFault::read_only
                                                                 : MirrorFault::broken;
    }
    return std::nullopt;
}

}  // namespace banyan::router
