// A session's transaction and what it has written of each table: so many keys, or, once they are too
// many, the ranges that hold them ("collapsed"; router/state/README.md, "Ranges").
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "router/catalog/catalog.hpp"
#include "router/model/key_ranges.hpp"
#include "router/model/types.hpp"
#include "router/state/ledger.hpp"

namespace banyan::router {

struct WrittenTable {
    std::uint64_t keys = 0;  ///< in the transaction's list of writes
    KeyRanges rows;          ///< of a collapsed one: which
    bool collapsed = false;  ///< its keys are not kept any more
    bool removes = false;    ///< a collapsed one's, any of them
    std::size_t slot = 0;    ///< a collapsed one's: the write that stands for all of them
};

/// The client's transaction as far as the mirror and the ledger are concerned.
struct RunningTransaction {
    std::vector<KeyWrite> writes;  ///< those of collapsed tables are empty, and keep their places
    std::vector<SuspectMark> suspects;
    std::vector<TableWrite> tables;
    std::vector<std::string> savepoints;
    bool mirror_lost = false;      ///< the mirror has no part (any more): keys turn dirty
    bool reload_catalog = false;   ///< it has changed the schema
    bool mirrored_ddl = false;     ///< on the mirror too, as text
    bool settings_touched = false;
    bool measured = false;         ///< a baseline of changed tables was taken
    bool unrecorded = false;       ///< one was only measured, not captured by its triggers
    bool opaque = false;           ///< a statement ran that may have done anything
    bool capturing = false;        ///< deep capture records for this session
    bool wrote = false;            ///< keys or tables were journaled
    std::map<Oid, std::int64_t> baseline;
    std::int64_t baseline_schema = 0;
    std::string baseline_clock;    ///< transaction start time when the baseline was taken
    std::map<TableId, std::int64_t> captured_rows;
    std::set<TableId> recorded;    ///< tables that deep capture has told rows of
    std::string measure_reason;
    std::uint64_t write_bytes = 0;  ///< of `writes`
    std::map<TableId, WrittenTable> written;

    bool has_work() const { return !writes.empty() || !suspects.empty() || !tables.empty(); }
};

}  // namespace banyan::router
