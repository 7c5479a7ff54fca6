// The state of the model, and what PostgreSQL does to it: rows, row locks, transactions' ends.
#pragma once

#include <array>
#include <cstring>
#include <type_traits>

#include "tests/races/race_model.hpp"

namespace banyan::races {

// Everything in a State is one byte, so that states compare and hash as bytes.
using Byte = std::int8_t;

constexpr Byte nobody = -1;
constexpr Byte no_row = 0;
// Owners of locks: the clients 0 and 1, and:
constexpr Byte copier = 2;
constexpr Byte repairer = 3;

/// One row of one database, and its table. READ COMMITTED, one version committed, at most one
/// pending.
struct Cell {
    Byte committed = no_row;
    Byte owner = nobody;  ///< of the row lock
    Byte pending = no_row;
    Byte changed = 0;  ///< `pending` is a change of the owner's; else it only locks
    Byte shared = 0;   ///< bit mask of KEY SHARE holders
    Byte users = 0;    ///< bit mask of transactions that hold any lock on the table
    Byte exclusive = nobody;  ///< who holds the table against everybody (TRUNCATE)
};

enum class Client : Byte {
    idle,          ///< between transactions; also over, if none is left
    running,       ///< statements on the primary, images on the mirror
    journaled,     ///< COMMIT may be sent
    committing,    ///< COMMIT is on its way to the primary
    committed,     ///< the primary has answered; the mirror's COMMIT follows
    mirror_first,  ///< a mutant's: the mirror has committed, the primary not yet
};

struct ClientState {
    Byte state = 0;
    Byte transaction = 0;  ///< index of the current or next one
    Byte on_primary = 0;   ///< statements run there
    Byte on_mirror = 0;    ///< statements applied there
    Byte mirrored = 0;     ///< this transaction has a half on the mirror
    Byte primary = 0;      ///< 0: source, 1: target
    Byte mirror_lost = 0;  ///< the mirror's half was given up
    Byte touched = 0;      ///< bit mask of keys written
    Byte removed = 0;      ///< bit mask of keys removed
    Byte copied = 0;       ///< bit mask of tables (one for each key) written by COPY or TRUNCATE
    Byte truncated = 0;    ///< those whose rows went
    Byte missed = 0;       ///< bit mask of removals that found no row on the mirror
    Byte journaled = 0;
    Byte updates = 0;  ///< bit mask of keys that were there when updated (for a mutant)
};

enum class Copier : Byte { waiting, opened, read, inserting, ending, done };
struct CopierState {
    Byte state = 0;
    Byte next = 0;  ///< the key to insert next
    std::array<Byte, keys> image{};
    Byte window = 0;   ///< open
    Byte touched = 0;  ///< bit mask of keys that the window was told of
    Byte emptied = 0;  ///< bit mask of tables that lost rows while it was open
};

enum class Repair : Byte { idle, asked, looked, read, wrote, committed };
struct RepairState {
    Byte state = 0;
    Byte key = 0;
    Byte in_flight = 0;
    Byte there = 0;  ///< the mirror has the row, and we its lock
    Byte image = no_row;
};

enum class Control : Byte { initial, dual, holding, drained, flipped };
struct State {
    std::array<std::array<Cell, keys>, 2> db;
    std::array<ClientState, clients> client;
    CopierState copy;
    RepairState repair;
    Byte control = 0;
    Byte admission = 1;
    Byte primary = 0;
    Byte crashed = 0;
    Byte recovering = 0;
    Byte settling = 0;  ///< transactions that are not mirrored may still be writing (R18)
    /// After a crash: backends whose COMMIT had been sent end it one way or the other, later.
    std::array<Byte, clients> orphan_primary{};
    std::array<Byte, clients> orphan_mirror{};
    std::array<Byte, clients> orphan_side{};  ///< which database was their primary
    Byte dirty = 0;                           ///< bit mask
    Byte again = 0;                           ///< bit mask: marked since repair read the generation
    Byte suspect = 0;                         ///< bit mask of tables
};
static_assert(std::has_unique_object_representations_v<State>);

struct Hash {
    std::size_t operator()(const State& state) const {
        const auto* bytes = reinterpret_cast<const unsigned char*>(&state);
        std::uint64_t hash = 14695981039346656037ULL;  // FNV-1a
        for (std::size_t i = 0; i < sizeof state; ++i) {
            hash = (hash ^ bytes[i]) * 1099511628211ULL;
        }
        return hash;
    }
};
struct Equal {
    bool operator()(const State& a, const State& b) const {
        return std::memcmp(&a, &b, sizeof a) == 0;
    }
};

inline Byte bit(int index) {
    return static_cast<Byte>(1 << index);
}

// --- what PostgreSQL does ---

enum class Outcome { done, no_row_there, blocked };

/// A table lock that goes with any statement; false: somebody holds the table exclusively.
inline bool use_table(Cell& cell, Byte me) {
    if (cell.exclusive != nobody && cell.exclusive != me) {
        return false;
    }
    cell.users = static_cast<Byte>(cell.users | bit(me));
    return true;
}

inline Byte visible(const Cell& cell, Byte me) {
    return cell.owner == me && cell.changed ? cell.pending : cell.committed;
}
inline bool free_for(const Cell& cell, Byte me) {
    return cell.owner == nobody || cell.owner == me;
}

inline Outcome upsert(Cell& cell, Byte me, Byte value) {
    if (!use_table(cell, me) || !free_for(cell, me)) {
        return Outcome::blocked;
    }
    cell.owner = me;
    cell.pending = value;
    cell.changed = 1;
    return Outcome::done;
}

inline Outcome update(Cell& cell, Byte me, Byte value) {
    if (!use_table(cell, me)) {
        return Outcome::blocked;
    }
    return visible(cell, me) == no_row ? Outcome::no_row_there : upsert(cell, me, value);
}

// A row that another has inserted and not committed is not seen, and not waited for.
inline Outcome remove(Cell& cell, Byte me) {
    if (!use_table(cell, me)) {
        return Outcome::blocked;
    }
    if (visible(cell, me) == no_row) {
        return Outcome::no_row_there;
    }
    const bool others_share = (cell.shared & ~bit(me)) != 0;
    if (!free_for(cell, me) || others_share) {
        return Outcome::blocked;
    }
    cell.owner = me;
    cell.pending = no_row;
    cell.changed = 1;
    return Outcome::done;
}

// INSERT ... ON CONFLICT DO NOTHING.
inline Outcome insert_nothing(Cell& cell, Byte me, Byte value) {
    if (!use_table(cell, me) || (cell.owner != nobody && cell.owner != me && cell.changed)) {
        return Outcome::blocked;
    }
    if (visible(cell, me) != no_row) {
        return Outcome::no_row_there;
    }
    return upsert(cell, me, value);
}

// INSERT, and what a COPY does for each row. no_row_there: a row is, a duplicate key.
inline Outcome insert_plain(Cell& cell, Byte me, Byte value) {
    return visible(cell, me) == no_row || (cell.owner != nobody && cell.owner != me && cell.changed)
               ? insert_nothing(cell, me, value)
               : Outcome::no_row_there;
}

inline Outcome truncate(Cell& cell, Byte me) {
    if (!use_table(cell, me) || (cell.users & ~bit(me)) != 0) {
        return Outcome::blocked;
    }
    cell.exclusive = cell.owner = me;
    cell.pending = no_row;
    cell.changed = 1;
    return Outcome::done;
}

inline void end(State& state, int side, Byte me, bool commit) {
    for (auto& cell : state.db[static_cast<std::size_t>(side)]) {
        if (cell.owner == me) {
            if (commit && cell.changed) {
                cell.committed = cell.pending;
            }
            cell.owner = nobody;
            cell.pending = no_row;
            cell.changed = 0;
        }
        cell.shared = static_cast<Byte>(cell.shared & ~bit(me));
        cell.users = static_cast<Byte>(cell.users & ~bit(me));
        cell.exclusive = cell.exclusive == me ? nobody : cell.exclusive;
    }
}

}  // namespace banyan::races
