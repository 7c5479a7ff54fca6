// The copier (router/sync/README.md) and the repairer (router/sync/REPAIR.md).

#include <algorithm>

#include "tests/races/machine.hpp"

namespace banyan::races {

void Machine::copier_steps(const State& state) {
    const auto& copy = state.copy;
    State next = state;
    auto& c = next.copy;
    switch (Copier(copy.state)) {
        case Copier::waiting: {
            if (Control(state.control) == Control::initial || state.recovering) {
                return;
            }
            for (const auto& client : state.client) {
                if (!idle(client) && !client.mirrored && !is(Mutant::no_start_barrier)) {
                    return;
                }
            }
            if (Repair(state.repair.state) != Repair::idle) {
                return;  // a window waits for the repair of its table
            }
            c.state = static_cast<Byte>(Copier::opened);
            c.window = 1;
            next.settling = 0;
            for (const auto& client : state.client) {
                if (client.journaled && !is(Mutant::window_forgets_deletes_in_flight) &&
                    !is(Mutant::no_window)) {
                    c.touched = static_cast<Byte>(c.touched | client.removed);
                }
            }
            mark(next, c.touched);
            add(next, "copier: opens a window");
            return;
        }
        case Copier::opened:
            if (std::any_of(state.db[0].begin(), state.db[0].end(),
                            [](const Cell& cell) { return cell.exclusive != nobody; })) {
                return;  // waits for the TRUNCATE's end
            }
            for (std::size_t key = 0; key < keys; ++key) {
                c.image[key] = state.db[0][key].committed;
            }
            c.state = static_cast<Byte>(Copier::read);
            add(next, "copier: reads the chunk");
            return;
        case Copier::read:
            for (int key = 0; key < keys; ++key) {
                if ((copy.touched & bit(key)) != 0) {
                    c.image[static_cast<std::size_t>(key)] = no_row;
                }
            }
            c.state = static_cast<Byte>(Copier::inserting);
            add(next, "copier: leaves out what was touched");
            return;
        case Copier::inserting: {
            const auto key = static_cast<std::size_t>(copy.next);
            if (key == keys) {
                c.state = static_cast<Byte>(Copier::ending);
                end(next, 1, copier, true);
                add(next, "copier: commits");
                return;
            }
            if (copy.image[key] != no_row &&
                insert_nothing(next.db[1][key], copier, copy.image[key]) == Outcome::blocked) {
                State again = state;
                end(again, 1, copier, false);
                again.copy = CopierState{};
                add(again, "copier: waits too long, begins anew");
                return;
            }
            ++c.next;
            add(next, "copier: inserts a row");
            return;
        }
        case Copier::ending:
            c = CopierState{};
            c.state = static_cast<Byte>(Copier::done);
            add(next, "copier: closes the window");
            return;
        case Copier::done:
            return;
    }
}

bool Machine::in_flight(const State& state, int key) const {
    return std::any_of(state.client.begin(), state.client.end(), [&](const ClientState& client) {
        const Byte copied = is(Mutant::copied_table_not_in_flight) ? no_row : client.copied;
        return client.journaled && ((client.touched | copied) & bit(key)) != 0;
    });
}

void Machine::verify_steps(const State& state) {
    const bool quiet =
        is(Mutant::verified_while_in_flight) || std::none_of(state.client.begin(), state.client.end(),
                                    [](const ClientState& client) { return client.journaled != 0; });
    if (!quiet || state.settling || state.recovering ||
        Control(state.control) == Control::drained) {
        return;
    }
    for (int key = 0; key < keys; ++key) {
        if ((state.suspect & ~state.copy.emptied & bit(key)) == 0) {
            continue;
        }
        State next = state;
        const auto at = static_cast<std::size_t>(key);
        if (state.db[0][at].committed == state.db[1][at].committed) {
            next.suspect = static_cast<Byte>(next.suspect & ~bit(key));
            add(next, "verification: finds a table equal");
        } else if ((state.dirty & bit(key)) == 0) {
            mark(next, bit(key));
            add(next, "verification: finds a row that differs");
        }
    }
}

void Machine::requeue(const State& state, const char* why) {
    State next = state;
    end(next, 1 - state.primary, repairer, false);
    end(next, state.primary, repairer, false);
    next.repair = RepairState{};
    add(next, std::string("repair: ") + why + ", later");
}

void Machine::repair_steps(const State& state) {
    const auto& repair = state.repair;
    const auto key = static_cast<std::size_t>(repair.key);
    const int mirror_side = 1 - state.primary;
    State next = state;
    auto& r = next.repair;
    auto& on_primary = next.db[static_cast<std::size_t>(state.primary)][key];
    auto& on_mirror = next.db[static_cast<std::size_t>(mirror_side)][key];
    switch (Repair(repair.state)) {
        case Repair::idle:
            if (state.copy.window || state.recovering || state.settling ||
                Control(state.control) == Control::drained) {
                return;
            }
            for (int k = 0; k < keys; ++k) {
                if ((state.dirty & bit(k)) == 0) {
                    continue;
                }
                State begun = state;
                begun.again = static_cast<Byte>(begun.again & ~bit(k));
                begun.repair.key = static_cast<Byte>(k);
                begun.repair.in_flight = in_flight(state, k);
                begun.repair.state = static_cast<Byte>(Repair::asked);
                add(begun, "repair: takes a key, asks whether it is in flight");
            }
            return;
        case Repair::asked:
            if (!use_table(on_mirror, repairer)) {
                requeue(state, "the mirror's table is locked");
                return;
            }
            if (is(Mutant::repair_without_row_locks)) {
                r.image = on_primary.committed;
                r.state = static_cast<Byte>(Repair::read);
                add(next, "repair: reads the primary without locks");
                return;
            }
            if (on_mirror.committed != no_row) {
                if (on_mirror.owner != nobody) {
                    requeue(state, "the mirror's row is locked");
                    return;
                }
                on_mirror.owner = repairer;
                r.there = 1;
            } else if (repair.in_flight && !is(Mutant::repair_without_barrier) &&
                       !is(Mutant::repair_barrier_after_the_look)) {
                requeue(state, "no row, and the key was in flight");
                return;
            }
            r.state = static_cast<Byte>(Repair::looked);
            add(next, "repair: looks at the mirror");
            return;
        case Repair::looked:
            if (!use_table(on_primary, repairer)) {
                requeue(state, "the primary's table is locked");
                return;
            }
            if (is(Mutant::repair_barrier_after_the_look) && !repair.there &&
                in_flight(state, int(key))) {
                requeue(state, "no row, and the key is in flight");
                return;
            }
            if (on_primary.committed != no_row) {
                if (on_primary.owner != nobody && on_primary.changed &&
                    on_primary.pending == no_row) {
                    requeue(state, "the primary's row is being removed");
                    return;
                }
                on_primary.shared = static_cast<Byte>(on_primary.shared | bit(repairer));
            }
            r.image = on_primary.committed;
            r.state = static_cast<Byte>(Repair::read);
            add(next, "repair: reads the primary FOR KEY SHARE");
            return;
        case Repair::read: {
            Outcome outcome = Outcome::done;
            if (is(Mutant::repair_without_row_locks)) {
                outcome = repair.image == no_row ? remove(on_mirror, repairer)
                                                 : upsert(on_mirror, repairer, repair.image);
                if (outcome == Outcome::no_row_there) {
                    outcome = Outcome::done;
                }
            } else if (repair.there) {
                on_mirror.pending = repair.image;
                on_mirror.changed = 1;
            } else if (repair.image != no_row) {
                outcome = insert_nothing(on_mirror, repairer, repair.image);
            }
            if (outcome != Outcome::done) {
                requeue(state, "somebody else inserts the row");
                return;
            }
            r.state = static_cast<Byte>(Repair::wrote);
            add(next, "repair: writes the mirror");
            return;
        }
        case Repair::wrote:
            end(next, mirror_side, repairer, true);
            end(next, state.primary, repairer, true);
            r.state = static_cast<Byte>(Repair::committed);
            add(next, "repair: commits");
            return;
        case Repair::committed:
            if ((state.again & bit(int(key))) == 0 ||
                is(Mutant::dirty_cleared_without_generation)) {
                next.dirty = static_cast<Byte>(next.dirty & ~bit(int(key)));
            }
            r = RepairState{};
            add(next, "repair: clears the generation it read");
            return;
    }
}

}  // namespace banyan::races
