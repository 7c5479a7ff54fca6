// Where one statement goes in a mirroring phase: decided once per statement and catalogue version.
// Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "router/catalog/catalog.hpp"
#include "router/config/ddl_policy.hpp"
#include "router/sql/capture.hpp"
#include "router/sql/statement.hpp"
#include "router/sql/table_writes.hpp"
#include "router/state/ledger.hpp"

namespace banyan::router {

enum class Route : std::uint8_t {
    forward,        ///< primary only, as the client sent it
    settings,       ///< forward; the session's settings are read again before the next decision
    capture,        ///< rewritten with RETURNING, applied to the mirror by row
    guarded,        ///< primary only; which tables it changed is measured, they become suspect
    mirrored_text,  ///< DDL and TRUNCATE: run on the mirror too, in the same transaction
    copy,           ///< COPY FROM STDIN whose data goes to the mirror too
    suspect,        ///< primary only; `suspects` is known before it runs (other COPY FROM)
    refuse,         ///< not run at all: [mirror] ddl
    begin,
    commit,
    rollback,
    savepoint,
    release,
    rollback_to,
    prepare_transaction,
    commit_prepared,
};

struct Decision {
    Route route = Route::forward;
    std::shared_ptr<const CapturePlan> capture;  ///< Route::capture only
    std::shared_ptr<const CopyPlan> copy;        ///< Route::copy only
    std::vector<SuspectMark> suspects;           ///< made suspect when the transaction commits
    std::vector<TableWrite> tables;  ///< written on both sides; suspect only if the mirror fails
    std::string mirror_sql;          ///< Route::mirrored_text: instead of the client's text
    /// Other tables may change by triggers or cascades: compare pg_stat_xact_user_tables.
    bool measure = false;
    bool deep = false;        ///< deep capture tells the rows it writes
    bool may_commit = false;  ///< it may end transactions on its way (CALL, DO)
    bool reload_catalog = false;  ///< after its commit
    std::string reason;           ///< why it is not captured; a word for metrics
    std::string shadow_skip;      ///< empty: may be run as a shadow read
    bool leaves_nothing = false;  ///< for sure takes and releases no advisory lock
};

struct RouteContext {
    const Catalog* catalog = nullptr;  ///< null: not loaded; every write is then unknown
    const std::vector<std::string>* search_path = nullptr;
    const std::vector<std::string>* temporary_tables = nullptr;
    const std::string* role = nullptr;
    DdlPolicy ddl = DdlPolicy::mirror;
    bool schema_changed = false;  ///< by this transaction: `catalog` is out of date
};

Decision decide(const ParsedQuery& query, const Statement& statement, const RouteContext& context);
/// For a query string the grammar could not read: it runs on the primary, and the tables it changes
/// are found out by what it did. `catalog` may be null.
Decision decide_unparsed(const Catalog* catalog);

}  // namespace banyan::router
