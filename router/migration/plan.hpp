// Which phase changes exist, and the steps of each. Pure: the walk (walk.hpp) performs what is
// decided here.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "router/model/types.hpp"

namespace banyan::router {

/// One thing a transition does. The order in a plan is the order of execution.
enum class Step : std::uint8_t {
    check_gates,        ///< measure and decide
    load_catalog,       ///< the source's catalogue for capture
    prepare_flip,       ///< connections, the new primary's catalogue, sequences, heartbeat tables
    ask_sessions,       ///< what they own; those with what cannot be brought along are waited for
    settle,             ///< wait for a moment without long transactions and with few dirty keys
    hold,               ///< sessions wait at their next transaction boundary
    drain,              ///< commits in flight end, dirty keys and suspicions reach zero
    check_writers,      ///< nobody but Banyan has a write open on the primary
    advance_sequences,  ///< the last time, behind the last transaction
    prove_reverse,      ///< a real write on both sides
    persist,            ///< the phase becomes durable
    publish,            ///< sessions are told
    adopt,              ///< every session has taken the phase up
    start_workers,      ///< repair and backfill
    stop_workers,       ///< and forget what they knew
};

std::string_view to_string(Step step);
/// What the step does, in words for an operator.
std::string_view describe(Step step);

/// One step forward, or one backward out of DUAL_WRITE, DUAL_READ or SWITCHOVER.
bool legal_step(Phase from, Phase to);
/// Primary and mirror trade places.
constexpr bool flips(Phase from, Phase to) {
    return primary_of(from) != primary_of(to) && mirrors(from) && mirrors(to);
}
/// From the persist step on the change cannot be undone: sessions may have committed writes under
/// the new phase that the former one would have mirrored, or mirrored the other way.
constexpr bool forward_only_once_persisted(Phase from, Phase to) {
    return flips(from, to) || (mirrors(from) && !mirrors(to));
}
/// Empty for an illegal pair.
std::vector<Step> plan_of(Phase from, Phase to);

}  // namespace banyan::router
