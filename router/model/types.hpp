// The vocabulary every part of the router shares: phases, sides, keys and row images.
// Pure values; no I/O, no locks.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace banyan::router {

/// The five phases of a migration, in order.
enum class Phase : std::uint8_t { initial, dual_write, dual_read, switchover, complete };

/// The two databases. The names never change during a migration.
enum class Side : std::uint8_t { source, target };

/// "INITIAL", "DUAL_WRITE", "DUAL_READ", "SWITCHOVER", "COMPLETE".
std::string_view to_string(Phase phase);
/// The inverse of to_string(Phase); case-insensitive; nullopt if unknown.
std::optional<Phase> phase_from_string(std::string_view text);
/// "source" or "target".
std::string_view to_string(Side side);

constexpr Side other(Side side) { return side == Side::source ? Side::target : Side::source; }

/// The database that answers writes in this phase.
constexpr Side primary_of(Phase phase) {
    return phase == Phase::switchover || phase == Phase::complete ? Side::target : Side::source;
}
/// The database that receives mirrored writes, if the phase mirrors at all (see mirrors()).
constexpr Side mirror_of(Phase phase) { return other(primary_of(phase)); }
/// True in DUAL_WRITE, DUAL_READ and SWITCHOVER.
constexpr bool mirrors(Phase phase) { return phase != Phase::initial && phase != Phase::complete; }
/// True in DUAL_READ and SWITCHOVER: shadow reads run on the mirror.
constexpr bool shadows(Phase phase) {
    return phase == Phase::dual_read || phase == Phase::switchover;
}

/// Process-wide identity of a mirrored table; persistent across restarts (state database, table
/// `tables`). 0 is never a table.
using TableId = std::uint32_t;

/// A value as it travels in Bind: nullopt is SQL NULL. The format (text or binary) is the column's.
using Value = std::optional<std::string>;

/// The key of one row: per key column, in key order, Int32 big-endian length then the value in
/// PostgreSQL's *binary* send format. Key columns are never NULL.
struct RowKey {
    TableId table = 0;
    std::string bytes;

    friend bool operator==(const RowKey&, const RowKey&) = default;
};

struct RowKeyHash {
    std::size_t operator()(const RowKey& key) const noexcept {
        return std::hash<std::string_view>{}(key.bytes) * 31 + key.table;
    }
};

/// Appends one key column's binary value to RowKey::bytes.
void append_key_column(std::string& bytes, std::string_view value);
/// Splits RowKey::bytes into its columns' binary values (views into `bytes`). Empty result if the
/// encoding is damaged.
std::vector<std::string_view> split_key(std::string_view bytes);

/// A session-level advisory lock.
struct AdvisoryLock {
    bool two_keys = false;  ///< two int4 keys in the halves of `key`, else one int8
    std::uint64_t key = 0;
    bool shared = false;

    bool operator==(const AdvisoryLock&) const = default;
};
/// As the functions take it: "7", "1, 2".
std::string keys_of(const AdvisoryLock& lock);
/// "advisory lock 7", "advisory lock (1, 2), shared".
std::string to_string(const AdvisoryLock& lock);

}  // namespace banyan::router
