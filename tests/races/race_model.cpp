#include "tests/races/race_model.hpp"

#include <algorithm>
#include <unordered_map>

#include "tests/races/machine.hpp"

namespace banyan::races {

const char* name_of(Mutant mutant) {
    static constexpr std::array names = {"none",
                                         "no_window",
                                         "window_forgets_deletes_in_flight",
                                         "zero_row_delete_is_success",
                                         "partial_update_mirroring",
                                         "no_journal",
                                         "journal_after_commit",
                                         "dirty_cleared_without_generation",
                                         "repair_without_row_locks",
                                         "repair_without_barrier",
                                         "repair_barrier_after_the_look",
                                         "no_start_barrier",
                                         "images_applied_after_commit",
                                         "drained_before_admission_closed",
                                         "recovery_does_not_wait",
                                         "mirror_commits_first",
                                         "mirrored_beside_unmirrored",
                                         "copied_table_not_in_flight",
                                         "lost_copy_leaves_no_suspicion",
                                         "copy_is_not_journaled",
                                         "truncate_forgets_the_window",
                                         "truncate_without_its_lock",
                                         "suspicion_cleared_in_a_window",
                                         "verified_while_in_flight"};
    static_assert(names.size() == static_cast<std::size_t>(Mutant::count_));
    return names[static_cast<std::size_t>(mutant)];
}

Exploration explore(const Scenario& scenario, Mutant mutant) {
    Machine machine(scenario, mutant);
    std::vector<const State*> order;
    std::vector<std::size_t> before;
    std::unordered_map<State, std::size_t, Hash, Equal> seen;
    const auto visit = [&](const State& state, std::size_t from) {
        const auto [at, fresh] = seen.try_emplace(state, order.size());
        if (fresh) {
            order.push_back(&at->first);
            before.push_back(from);
        }
    };
    // The steps' names are worked out again, for the one path that is shown.
    const auto path = [&](std::size_t at) {
        std::vector<std::string> steps;
        while (at != 0) {
            std::string ignored;
            for (const auto& [next, step] : machine.successors(*order[before[at]], ignored)) {
                if (Equal{}(next, *order[at])) {
                    steps.push_back(step);
                    break;
                }
            }
            at = before[at];
        }
        std::reverse(steps.begin(), steps.end());
        return steps;
    };

    Exploration result;
    visit(machine.initial(), 0);
    for (std::size_t at = 0; at < order.size(); ++at) {
        const State state = *order[at];
        std::string wrong;
        const auto successors = machine.successors(state, wrong);
        if (wrong.empty() && successors.empty()) {
            if (!machine.over(state)) {
                wrong = "nothing can go on";
            } else if (state.dirty != 0) {
                wrong = "keys are dirty for ever";
            } else if (state.suspect != 0) {
                wrong = "tables are suspect for ever";
            } else {
                for (std::size_t key = 0; key < keys; ++key) {
                    if (state.db[0][key].committed != state.db[1][key].committed) {
                        wrong = "the sides differ in the end";
                    }
                }
            }
        }
        if (!wrong.empty()) {
            result.finding = {wrong, path(at)};
            break;
        }
        for (const auto& successor : successors) {
            visit(successor.state, at);
        }
    }
    result.states = order.size();
    return result;
}

}  // namespace banyan::races
