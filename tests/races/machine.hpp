// The model's transitions: everything that may happen next, by actor.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/races/race_model.hpp"
#include "tests/races/state.hpp"

namespace banyan::races {

class Machine {
   public:
    Machine(const Scenario& scenario, Mutant mutant) : scenario_(scenario), mutant_(mutant) {}

    State initial() const {
        State state;
        for (std::size_t key = 0; key < keys; ++key) {
            state.db[0][key].committed = scenario_.on_source[key] ? Byte{1} : no_row;
        }
        return state;
    }

    struct Successor {
        State state;
        std::string step;
    };
    /// All that can happen next. `wrong` is set if one of them must never happen.
    std::vector<Successor> successors(const State& state, std::string& wrong) {
        out_.clear();
        wrong_.clear();
        for (int i = 0; i < clients; ++i) {
            client_steps(state, i);
        }
        copier_steps(state);
        repair_steps(state);
        verify_steps(state);
        control_steps(state);
        crash_steps(state);
        wrong = wrong_;
        return std::move(out_);
    }

    bool over(const State& state) const {
        for (std::size_t i = 0; i < clients; ++i) {
            if (!idle(state.client[i]) ||
                static_cast<std::size_t>(state.client[i].transaction) <
                    scenario_.programs[i].size() ||
                state.orphan_primary[i] || state.orphan_mirror[i]) {
                return false;
            }
        }
        return Copier(state.copy.state) == Copier::done &&
               Repair(state.repair.state) == Repair::idle &&
               Control(state.control) == (scenario_.flips ? Control::flipped : Control::dual) &&
               !state.recovering;
    }

   private:
    static bool idle(const ClientState& client) { return Client(client.state) == Client::idle; }
    bool is(Mutant mutant) const { return mutant_ == mutant; }
    static std::string who(int client) {
        return std::string("client ") + char('A' + client) + ": ";
    }

    void add(const State& state, std::string step) { out_.push_back({state, std::move(step)}); }

    static void suspect(State& state, Byte mask) {
        state.suspect = static_cast<Byte>(state.suspect | mask);
    }
    static void mark(State& state, Byte mask) {
        state.dirty = static_cast<Byte>(state.dirty | mask);
        state.again = static_cast<Byte>(state.again | mask);
    }

    // Statement `op` of a client on database `side`. The value written names client and
    // transaction.
    static Outcome run(State& state, int side, Byte me, const Op& op, Byte value,
                       ClientState* learn);

    void client_steps(const State& state, int i);

    // The transaction is over for the ledger and for the client.
    static void leave(State& state, int i);

    void apply_steps(const State& state, int i, const std::vector<Op>& ops);

    // The images of one statement. Foreign keys and triggers of the mirror do nothing.
    Outcome apply(State& state, int mirror, Byte me, const Op& op, Byte value,
                  ClientState& client) const;

    static Byte value_of(int client, Byte transaction);

    void statement_steps(const State& state, int i, const std::vector<Op>& ops);

    void abort(const State& state, int i, const char* why);

    // Ledger::begin_commit(): in flight, open windows told of removals, durable.
    void journal(const State& state, int i);

    void enter_ledger(State& state, ClientState& client) const;

    void committed_steps(const State& state, int i, const std::vector<Op>& ops);

    // --- backfill: Protocol P, one chunk with both keys ---

    void copier_steps(const State& state);

    // --- repair: router/sync/REPAIR.md ---

    bool in_flight(const State& state, int key) const;

    void requeue(const State& state, const char* why);

    void repair_steps(const State& state);

    // --- verification of suspect tables, in one step: router/sync/README.md says why it may be ---

    void verify_steps(const State& state);

    // --- phases ---

    bool drained(const State& state) const {
        return std::all_of(state.client.begin(), state.client.end(), idle);
    }

    void control_steps(const State& state) {
        State next = state;
        const auto go = [&](Control control, const char* step) {
            next.control = static_cast<Byte>(control);
            add(next, std::string("control: ") + step);
        };
        if (state.recovering) {
            const bool gone = std::none_of(state.orphan_primary.begin(), state.orphan_primary.end(),
                                           [](Byte b) { return b != 0; }) &&
                              std::none_of(state.orphan_mirror.begin(), state.orphan_mirror.end(),
                                           [](Byte b) { return b != 0; });
            if (gone || is(Mutant::recovery_does_not_wait)) {
                next.recovering = 0;
                add(next, "control: recovery is over");
            }
            return;
        }
        switch (Control(state.control)) {
            case Control::initial:
                next.settling = 1;
                go(Control::dual, "DUAL_WRITE");
                return;
            case Control::dual:
                if (!scenario_.flips || Copier(state.copy.state) != Copier::done) {
                    return;
                }
                if (is(Mutant::drained_before_admission_closed)) {
                    if (drained(state) && state.dirty == 0 && state.suspect == 0 &&
                        Repair(state.repair.state) == Repair::idle) {
                        go(Control::drained, "finds nothing under way");
                    }
                    return;
                }
                next.admission = 0;
                go(Control::holding, "closes admission");
                return;
            case Control::holding:
                if (drained(state) && state.dirty == 0 && state.suspect == 0 &&
                    Repair(state.repair.state) == Repair::idle) {
                    go(Control::drained, "nothing is under way or dirty");
                }
                return;
            case Control::drained:
                next.admission = 1;
                next.primary = 1;
                for (std::size_t key = 0; key < keys; ++key) {
                    if (state.db[0][key].committed != state.db[1][key].committed) {
                        wrong_ = "the sides differ at the flip";
                    }
                }
                go(Control::flipped, "flips, opens admission");
                return;
            case Control::flipped:
                return;
        }
    }

    // --- death ---

    void crash_steps(const State& state) {
        if (scenario_.crashes && !state.crashed && Control(state.control) != Control::initial) {
            State next = state;
            next.crashed = next.recovering = 1;
            next.settling = 0;  // the sessions are gone; what they had sent is waited for
            for (int i = 0; i < clients; ++i) {
                crash_client(next, i);
            }
            end(next, 1 - state.primary, repairer, false);
            end(next, state.primary, repairer, false);
            next.repair = RepairState{};
            if (Copier(state.copy.state) != Copier::done) {
                end(next, 1, copier, false);  // progress commits with the rows: it begins anew
                next.copy = CopierState{};
            }
            if (Control(state.control) == Control::holding ||
                Control(state.control) == Control::drained) {
                next.control = static_cast<Byte>(Control::dual);
                next.admission = 1;
            }
            add(next, "Banyan dies and starts again");
        }
        for (std::size_t i = 0; i < clients; ++i) {
            const Byte me = static_cast<Byte>(i);
            for (const bool commits : {true, false}) {
                if (state.orphan_primary[i]) {
                    State next = state;
                    end(next, state.orphan_side[i], me, commits);
                    next.orphan_primary[i] = 0;
                    add(next, "an orphaned backend of the primary ends");
                }
                if (state.orphan_mirror[i]) {
                    State next = state;
                    end(next, 1 - state.orphan_side[i], me, commits);
                    next.orphan_mirror[i] = 0;
                    add(next, "an orphaned backend of the mirror ends");
                }
            }
        }
    }

    // Its journal entry stays. A backend that was sent COMMIT may still commit; the others roll
    // back.
    void crash_client(State& state, int i) const {
        auto& client = state.client[static_cast<std::size_t>(i)];
        const Byte me = static_cast<Byte>(i);
        if (idle(client)) {
            return;
        }
        const auto at = static_cast<std::size_t>(i);
        const auto stage = Client(client.state);
        state.orphan_side[at] = client.primary;
        if (stage == Client::committing) {
            state.orphan_primary[at] = 1;
        } else {
            end(state, client.primary, me, false);
        }
        if (stage == Client::committed && client.mirrored && !client.mirror_lost) {
            state.orphan_mirror[at] = 1;
        } else {
            end(state, 1 - client.primary, me, false);
        }
        if (client.journaled && !is(Mutant::no_journal)) {
            mark(state, client.touched);
            suspect(state, is(Mutant::copy_is_not_journaled) ? no_row : client.copied);
        }
        leave(state, i);
    }

    const Scenario& scenario_;
    const Mutant mutant_;
    std::vector<Successor> out_;
    std::string wrong_;
};

}  // namespace banyan::races
