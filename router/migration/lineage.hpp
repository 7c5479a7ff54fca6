// What a database server is and what has become of it since the last look: the same one, restarted,
// or another state of the data under the same address (a promoted standby, a restored backup,
// another cluster). Pure. What each change means for the mirrored tables is the point: a server
// that crashed may have lost what it had acknowledged a moment before, and one with another history
// anything.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "router/pg/connection.hpp"

namespace banyan::router {

struct ServerIdentity {
    std::string system;         ///< the cluster's system identifier
    std::string timeline;       ///< as in the name of a WAL file; empty in recovery
    std::uint64_t flushed = 0;  ///< WAL position, in bytes, that is on disk; 0 in recovery
    /// When its shared memory was set up (the checkpointer's start): a restart and a crash of one
    /// backend both change it. pg_postmaster_start_time() does not see the second.
    std::string incarnation;
    bool in_recovery = false;
    bool read_only = false;  ///< default_transaction_read_only, as Banyan's role would get it

    bool operator==(const ServerIdentity&) const = default;
};

enum class ServerChange : std::uint8_t {
    none,
    restarted,    ///< the same history; commits that were acknowledged but not flushed may be gone
    failed_over,  ///< another timeline: a standby was promoted, or a backup was restored
    went_back,    ///< the same timeline, but flushed WAL is missing: an older copy of the disk
    other_cluster,  ///< another system identifier
};
std::string_view to_string(ServerChange change);

/// A server in recovery tells nothing: it is not taken for the primary it may become.
ServerChange change(const ServerIdentity& known, const ServerIdentity& now);

/// For the state database; nullopt if the text is not one.
std::string encode(const ServerIdentity& identity);
std::optional<ServerIdentity> decode_identity(std::string_view text);

/// The question, and its one row. Needs no privilege, but without pg_monitor the incarnation is the
/// postmaster's, which does not see crashes of single backends.
extern const char* const identity_sql;
ServerIdentity read_identity(const Rows& rows);

}  // namespace banyan::router
