// The clients: statements on the primary, images on the mirror, the journal, both commits.

#include <algorithm>

#include "tests/races/machine.hpp"

namespace banyan::races {

Outcome Machine::run(State& state, int side, Byte me, const Op& op, Byte value,
                     ClientState* learn) {
    auto& rows = state.db[static_cast<std::size_t>(side)];
    auto& parent = rows[0];
    auto& child = rows[1];
    const auto key = static_cast<std::size_t>(op.key);
    const auto note = [&](std::size_t written, bool removal) {
        if (learn != nullptr) {
            learn->touched = static_cast<Byte>(learn->touched | bit(int(written)));
            learn->removed = static_cast<Byte>(removal ? learn->removed | bit(int(written))
                                                       : learn->removed & ~bit(int(written)));
        }
    };
    const auto note_copy = [&](int table) {
        if (learn != nullptr) {
            learn->copied = static_cast<Byte>(learn->copied | bit(table));
        }
    };
    if (op.kind == OpKind::truncate) {
        const auto outcome = truncate(rows[key], me);
        if (outcome == Outcome::done) {
            note_copy(op.key);
            if (learn != nullptr) {
                learn->truncated = static_cast<Byte>(learn->truncated | bit(op.key));
            }
        }
        return outcome;
    }
    if (op.kind == OpKind::copy && op.key == 0) {
        const auto outcome = insert_plain(parent, me, value);
        if (outcome == Outcome::done) {
            note_copy(0);
        }
        return outcome;
    }
    if (op.kind == OpKind::remove) {
        // The cascade's rows are locked first, as Banyan's question before the statement does.
        if (op.key == 0 && !use_table(child, me)) {
            return Outcome::blocked;
        }
        if (op.key == 0 && visible(child, me) != no_row) {
            if (const auto cascaded = remove(child, me); cascaded == Outcome::blocked) {
                return cascaded;
            }
            note(1, true);
        }
        const auto outcome = remove(rows[key], me);
        if (outcome == Outcome::done) {
            note(key, true);
        }
        return outcome;
    }
    if (op.key == 1 && (op.kind == OpKind::upsert || op.kind == OpKind::copy)) {
        // The foreign key's check.
        const bool removed_by_other = parent.owner != nobody && parent.owner != me &&
                                      parent.changed && parent.pending == no_row;
        if (visible(parent, me) == no_row) {
            return Outcome::no_row_there;
        }
        if (removed_by_other) {
            return Outcome::blocked;
        }
        const auto outcome = op.kind == OpKind::copy ? insert_plain(child, me, value)
                                                     : upsert(child, me, value);
        if (outcome == Outcome::done) {
            parent.shared = static_cast<Byte>(parent.shared | bit(me));
            op.kind == OpKind::copy ? note_copy(1) : note(1, false);
        }
        return outcome;
    }
    const auto outcome =
        op.kind == OpKind::update ? update(rows[key], me, value) : upsert(rows[key], me, value);
    if (outcome == Outcome::done) {
        note(key, false);
        if (learn != nullptr && op.kind == OpKind::update) {
            learn->updates = static_cast<Byte>(learn->updates | bit(op.key));
        }
    }
    return outcome;
}

void Machine::client_steps(const State& state, int i) {
    const auto& client = state.client[static_cast<std::size_t>(i)];
    const auto& program = scenario_.programs[static_cast<std::size_t>(i)];
    const Byte me = static_cast<Byte>(i);
    if (state.recovering && state.crashed) {
        return;  // no session before recovery is over
    }
    switch (Client(client.state)) {
        case Client::idle:
            if (static_cast<std::size_t>(client.transaction) < program.size() && state.admission) {
                State next = state;
                auto& c = next.client[static_cast<std::size_t>(i)];
                const auto transaction = c.transaction;
                c = ClientState{};
                c.transaction = transaction;
                c.state = static_cast<Byte>(Client::running);
                c.mirrored = Control(state.control) != Control::initial;
                c.primary = state.primary;
                add(next, who(i) + (c.mirrored ? "begins" : "begins, not mirrored"));
            }
            break;
        case Client::running:
            statement_steps(state, i, program[static_cast<std::size_t>(client.transaction)]);
            break;
        case Client::journaled: {
            State next = state;
            auto& c = next.client[static_cast<std::size_t>(i)];
            if (is(Mutant::mirror_commits_first) && client.mirrored && !client.mirror_lost) {
                c.state = static_cast<Byte>(Client::mirror_first);
                end(next, 1 - client.primary, me, true);
                add(next, who(i) + "the mirror commits first");
                break;
            }
            c.state = static_cast<Byte>(Client::committing);
            add(next, who(i) + "sends COMMIT");
            break;
        }
        case Client::mirror_first:
        case Client::committing:
            for (const bool commits : {true, false}) {
                State next = state;
                auto& c = next.client[static_cast<std::size_t>(i)];
                end(next, client.primary, me, commits);
                if (commits) {
                    c.state = static_cast<Byte>(Client::committed);
                    if (is(Mutant::journal_after_commit)) {
                        c.journaled = 0;
                    }
                    add(next, who(i) + "is committed on the primary");
                } else {
                    end(next, 1 - client.primary, me, false);
                    leave(next, i);
                    add(next, who(i) + "COMMIT fails on the primary (R16)");
                }
            }
            break;
        case Client::committed:
            committed_steps(state, i, program[static_cast<std::size_t>(client.transaction)]);
            break;
    }
}

void Machine::leave(State& state, int i) {
    auto& client = state.client[static_cast<std::size_t>(i)];
    const auto following = static_cast<Byte>(client.transaction + 1);
    client = ClientState{};
    client.transaction = following;
}

void Machine::apply_steps(const State& state, int i, const std::vector<Op>& ops) {
    const auto& client = state.client[static_cast<std::size_t>(i)];
    const Byte me = static_cast<Byte>(i);
    const int mirror = 1 - client.primary;
    if (!client.mirrored || client.mirror_lost || client.on_mirror >= client.on_primary) {
        return;
    }
    const Op& op = ops[static_cast<std::size_t>(client.on_mirror)];
    State next = state;
    auto& c = next.client[static_cast<std::size_t>(i)];
    const auto outcome = apply(next, mirror, me, op, value_of(i, client.transaction), c);
    if (outcome == Outcome::blocked) {
        State given_up = state;
        auto& lost = given_up.client[static_cast<std::size_t>(i)];
        lost.mirror_lost = 1;
        end(given_up, mirror, me, false);
        add(given_up, who(i) + "waits too long on the mirror (R17)");
        return;
    }
    if (op.kind == OpKind::copy && outcome == Outcome::no_row_there) {
        next = state;
        next.client[static_cast<std::size_t>(i)].mirror_lost = 1;
        end(next, mirror, me, false);
        add(next, who(i) + "its copy meets a duplicate on the mirror");
        return;
    }
    ++c.on_mirror;
    add(next, who(i) + "image on the mirror");
}

Outcome Machine::apply(State& state, int mirror, Byte me, const Op& op, Byte value,
                       ClientState& client) const {
    auto& rows = state.db[static_cast<std::size_t>(mirror)];
    const auto erase = [&](int key) {
        const auto outcome = remove(rows[static_cast<std::size_t>(key)], me);
        if (outcome == Outcome::no_row_there && !is(Mutant::zero_row_delete_is_success)) {
            client.missed = static_cast<Byte>(client.missed | bit(key));
        }
        return outcome;
    };
    if (op.kind == OpKind::truncate) {
        auto& row = rows[static_cast<std::size_t>(op.key)];
        const auto outcome = truncate(row, me);
        if (outcome == Outcome::done && is(Mutant::truncate_without_its_lock)) {
            end(state, mirror, me, true);  // as if it were a transaction of its own
        }
        return outcome;
    }
    if (op.kind == OpKind::copy) {
        return insert_plain(rows[static_cast<std::size_t>(op.key)], me, value);
    }
    if (op.kind == OpKind::remove) {
        if (op.key == 0 && (client.removed & bit(1)) != 0 && erase(1) == Outcome::blocked) {
            return Outcome::blocked;
        }
        if ((client.touched & bit(op.key)) == 0) {
            return Outcome::done;  // it removed nothing on the primary
        }
        return erase(op.key) == Outcome::blocked ? Outcome::blocked : Outcome::done;
    }
    if ((client.touched & bit(op.key)) == 0) {
        return Outcome::done;
    }
    auto& row = rows[static_cast<std::size_t>(op.key)];
    if (is(Mutant::partial_update_mirroring) && (client.updates & bit(op.key)) != 0) {
        return update(row, me, value) == Outcome::blocked ? Outcome::blocked : Outcome::done;
    }
    return upsert(row, me, value);
}

Byte Machine::value_of(int client, Byte transaction) {
    return static_cast<Byte>(2 + client * 4 + transaction);
}

void Machine::statement_steps(const State& state, int i, const std::vector<Op>& ops) {
    const auto& client = state.client[static_cast<std::size_t>(i)];
    const Byte me = static_cast<Byte>(i);
    if (static_cast<std::size_t>(client.on_primary) < ops.size()) {
        State next = state;
        auto& c = next.client[static_cast<std::size_t>(i)];
        const auto outcome =
            run(next, client.primary, me, ops[static_cast<std::size_t>(client.on_primary)],
                value_of(i, client.transaction), &c);
        if (outcome == Outcome::blocked) {
            if (client.on_primary > 0) {  // only who holds something can be in a deadlock
                abort(state, i, "is the victim of a deadlock");
            }
        } else if (outcome == Outcome::no_row_there &&
                   ops[static_cast<std::size_t>(client.on_primary)].kind == OpKind::copy) {
            abort(state, i, "copies a duplicate, or a row without its parent");
        } else {
            ++c.on_primary;
            add(next, who(i) + "statement on the primary");
        }
    } else if (!client.mirrored) {
        for (const bool commits : {true, false}) {
            State next = state;
            end(next, client.primary, me, commits);
            leave(next, i);
            add(next, who(i) + (commits ? "commits, not mirrored" : "rolls back"));
        }
    } else {
        const bool applied = client.mirror_lost || client.on_mirror == client.on_primary ||
                             is(Mutant::images_applied_after_commit);
        if (applied) {
            journal(state, i);
        } else if (!client.journaled && client.removed == 0 && client.copied == 0 &&
                   !is(Mutant::journal_after_commit)) {
            // The mirror's answers cannot change the entry: both are waited for at once.
            State next = state;
            enter_ledger(next, next.client[static_cast<std::size_t>(i)]);
            add(next, who(i) + "is journaled, its images are on their way");
        }
        abort(state, i, "rolls back");
    }
    if (!is(Mutant::images_applied_after_commit)) {
        apply_steps(state, i, ops);
    }
}

void Machine::abort(const State& state, int i, const char* why) {
    State next = state;
    const Byte me = static_cast<Byte>(i);
    const auto primary = state.client[static_cast<std::size_t>(i)].primary;
    end(next, primary, me, false);
    end(next, 1 - primary, me, false);
    leave(next, i);
    add(next, who(i) + why);
}

void Machine::journal(const State& state, int i) {
    State next = state;
    auto& client = next.client[static_cast<std::size_t>(i)];
    client.state = static_cast<Byte>(Client::journaled);
    if (is(Mutant::journal_after_commit)) {
        add(next, who(i) + "goes on without a journal");
        return;
    }
    if (!client.journaled) {
        enter_ledger(next, client);
    }
    add(next, who(i) + "is journaled");
}

void Machine::enter_ledger(State& state, ClientState& client) const {
    client.journaled = 1;
    if (client.missed != 0) {
        mark(state, client.missed);
    }
    if (state.settling && !is(Mutant::mirrored_beside_unmirrored)) {
        mark(state, client.touched);
        suspect(state, client.copied);
    }
    if (state.copy.window && !is(Mutant::truncate_forgets_the_window)) {
        suspect(state, client.truncated);
        if (!is(Mutant::suspicion_cleared_in_a_window)) {
            state.copy.emptied = static_cast<Byte>(state.copy.emptied | client.truncated);
        }
    }
    if (state.copy.window && !is(Mutant::no_window)) {
        state.copy.touched = static_cast<Byte>(state.copy.touched | client.removed);
        mark(state, client.removed);
    }
}

void Machine::committed_steps(const State& state, int i, const std::vector<Op>& ops) {
    const auto& client = state.client[static_cast<std::size_t>(i)];
    const Byte me = static_cast<Byte>(i);
    const int mirror = 1 - client.primary;
    if (is(Mutant::journal_after_commit) && !client.journaled) {
        State next = state;
        enter_ledger(next, next.client[static_cast<std::size_t>(i)]);
        add(next, who(i) + "is journaled at last");
        return;
    }
    if (is(Mutant::images_applied_after_commit) && !client.mirror_lost &&
        client.on_mirror < client.on_primary) {
        apply_steps(state, i, ops);
        return;
    }
    const auto finish = [&](bool on_mirror, bool known, const char* step) {
        State next = state;
        end(next, mirror, me, on_mirror);
        if (!known && !is(Mutant::lost_copy_leaves_no_suspicion)) {
            suspect(next, client.copied);
        }
        if (!known && !is(Mutant::no_journal)) {
            mark(next, client.touched);
        } else if (client.missed != 0) {
            mark(next, client.missed);  // a transaction's marks are made again at its end
        }
        leave(next, i);
        add(next, who(i) + step);
    };
    if (client.mirror_lost) {
        finish(false, false, "ends without the mirror");
        return;
    }
    finish(true, true, "is committed on the mirror");
    if (!is(Mutant::mirror_commits_first)) {
        finish(false, false, "the mirror's COMMIT fails");
        finish(true, false, "the mirror's answer to COMMIT is lost");
    }
}

}  // namespace banyan::races
