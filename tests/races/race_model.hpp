// An exhaustive model of what Banyan does between two databases: every interleaving of two clients,
// the backfill's copier, the repairer and the control plane, with a crash of Banyan anywhere, on
// two keys of which the second row refers to the first. What it says and leaves out: README.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace banyan::races {

inline constexpr int keys = 2;  ///< 0: a parent row; 1: its child, ON DELETE CASCADE
inline constexpr int clients = 2;

enum class OpKind : std::uint8_t {
    upsert,  ///< INSERT ... ON CONFLICT DO UPDATE
    update,  ///< UPDATE: nothing if there is no row
    remove,  ///< DELETE, with what it cascades to
    copy,    ///< COPY: a plain INSERT on both sides, of which the ledger knows the table alone
    truncate,  ///< TRUNCATE: with the table locked against everybody; of the child's table only
};

struct Op {
    OpKind kind;
    int key;
};

/// A client's transactions, one after the other; each is a list of statements.
using Program = std::vector<std::vector<Op>>;

/// The ways to do it wrong. Each must be found.
enum class Mutant : std::uint8_t {
    none,
    no_window,
    window_forgets_deletes_in_flight,
    zero_row_delete_is_success,
    partial_update_mirroring,
    no_journal,
    journal_after_commit,
    dirty_cleared_without_generation,
    repair_without_row_locks,
    repair_without_barrier,
    repair_barrier_after_the_look,
    no_start_barrier,
    images_applied_after_commit,
    drained_before_admission_closed,
    recovery_does_not_wait,
    mirror_commits_first,
    mirrored_beside_unmirrored,
    copied_table_not_in_flight,
    lost_copy_leaves_no_suspicion,
    copy_is_not_journaled,
    truncate_forgets_the_window,
    truncate_without_its_lock,
    suspicion_cleared_in_a_window,
    verified_while_in_flight,
    count_,
};
const char* name_of(Mutant mutant);

struct Scenario {
    std::array<Program, clients> programs;
    std::array<bool, keys> on_source;  ///< rows there at the beginning; the target is empty
    bool flips = false;                ///< the control plane goes on to the switchover
    bool crashes = false;              ///< Banyan may die once
};

struct Finding {
    std::string what;                ///< empty: nothing wrong
    std::vector<std::string> steps;  ///< the shortest way there
};

struct Exploration {
    std::size_t states = 0;
    Finding finding;
};

/// Visits every reachable state, breadth first, and stops at the first wrong one. Wrong are:
/// unequal sides at the flip or at the end, dirty keys at the end, and a state that is no end and
/// has no successor.
Exploration explore(const Scenario& scenario, Mutant mutant);

/// What the tests run: `thorough` for all pairs of programs, else a choice that finds every mutant.
std::vector<Scenario> scenarios(bool thorough);

std::string describe(const Scenario& scenario);

}  // namespace banyan::races
