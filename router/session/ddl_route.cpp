// How a change of the schema is routed: [mirror] ddl, and what no text can repeat.

#include <algorithm>

#include "router/session/route_parts.hpp"
#include "router/sql/capture.hpp"

namespace banyan::router {
namespace {

// CREATE TABLE AS, SELECT INTO, CREATE MATERIALIZED VIEW: a query whose effects beyond its rows would
// not be the same a second time, or that the mirror cannot read (EXECUTE of the client's statement).
bool runs_a_write(const Statement& statement, const RouteContext& context) {
    if (statement.tag != "CreateTableAsStmt" && statement.tag != "SelectStmt") {
        return false;
    }
    return (statement.inner != StatementKind::read && statement.inner != StatementKind::ddl) ||
           context.catalog == nullptr || may_write(statement, *context.catalog);
}

Decision not_mirrored(const Statement& statement, const RouteContext& context,
                      const char* reason) {
    Decision decision = measured(nullptr, reason);
    decision.reload_catalog = true;
    if (context.catalog == nullptr) {
        decision.suspects.push_back({0, reason});
    } else {
        decision.suspects = named_tables(statement, context, reason);
    }
    return decision;
}

/// DDL that names a mapped table: on the mirror the name means nothing, or another table.
Decision ddl_on_mapped(const ParsedQuery& query, const Statement& statement,
                       const RouteContext& context) {
    Decision decision = simple(Route::guarded);
    decision.reason = "ddl_on_mapped";
    decision.reload_catalog = true;
    decision.suspects = mentions(query, statement, "cascade")
                            ? std::vector<SuspectMark>{{0, decision.reason}}
                            : named_tables(statement, context, decision.reason.c_str());
    return decision;
}

Decision refused() {
    Decision decision = simple(Route::refuse);
    decision.reason = "ddl_refused";
    return decision;
}

}  // namespace

Decision by_text(const ParsedQuery& query, const Statement& statement, const RouteContext& context,
                 const char* reason) {
    const auto temporary =
        std::count_if(statement.tables.begin(), statement.tables.end(),
                      [&](const RangeName& name) { return is_temporary(name, context); });
    const bool all_temporary =
        temporary > 0 && static_cast<std::size_t>(temporary) == statement.tables.size();
    if (statement.temporary || all_temporary) {
        return simple(Route::settings);  // which names hide a table is read again
    }
    if (temporary > 0) {
        // On the mirror, where the temporary one is not, the name may mean another table.
        Decision decision = everything_suspect(Route::guarded, "ddl_on_temporary");
        decision.reload_catalog = true;
        return decision;
    }
    if (context.catalog != nullptr && statement.kind != StatementKind::truncate &&
        names_mapped_table(statement, context)) {
        return ddl_on_mapped(query, statement, context);
    }
    if (context.catalog == nullptr || mentions(query, statement, "cascade")) {
        return everything_suspect(Route::mirrored_text, reason);
    }
    Decision decision = simple(Route::mirrored_text);
    decision.suspects = named_tables(statement, context, reason);
    decision.reason = reason;
    // Event triggers and triggers on TRUNCATE write on the primary; on the mirror none fires.
    decision.measure = true;
    return decision;
}

Decision schema_change(const ParsedQuery& query, const Statement& statement,
                       const RouteContext& context) {
    Decision decision = by_text(query, statement, context, "ddl");
    if (decision.route == Route::settings) {  // temporary: nobody else's
        return runs_a_write(statement, context) ? measured(nullptr, "ddl_of_a_write") : decision;
    }
    // Routine work with data that is nowhere but in the database itself.
    const bool refresh = statement.tag == "RefreshMatViewStmt";
    if (context.ddl == DdlPolicy::refuse && !refresh) {
        return refused();
    }
    if (context.ddl == DdlPolicy::primary_only && !refresh &&
        decision.route == Route::mirrored_text) {
        const bool named = !decision.suspects.empty() && decision.suspects.front().table == 0;
        Decision alone = not_mirrored(statement, context, "ddl_primary_only");
        if (named) {
            alone.suspects = {{0, "ddl_primary_only"}};  // CASCADE: who knows what else
        }
        return alone;
    }
    if (decision.route == Route::mirrored_text && runs_a_write(statement, context)) {
        return not_mirrored(statement, context, "ddl_of_a_write");
    }
    if (statement.tag == "DropOwnedStmt" && decision.route == Route::mirrored_text) {
        decision = everything_suspect(Route::mirrored_text, "ddl");  // it names no table
    }
    decision.reload_catalog = true;
    return decision;
}

Decision concurrent_schema_change(const Statement& statement, const RouteContext& context) {
    if (is_temporary(statement.target, context)) {
        return simple(Route::forward);
    }
    if (context.ddl == DdlPolicy::refuse) {
        return refused();
    }
    Decision decision = simple(Route::suspect);
    decision.reason = "concurrent_ddl";
    decision.reload_catalog = true;
    // An index changes no row; a partition that is detached takes its rows along.
    if (context.catalog == nullptr) {
        decision.suspects.push_back({0, "concurrent_ddl"});
    } else if (statement.tag == "AlterTableStmt") {
        decision.suspects = named_tables(statement, context, "concurrent_ddl");
    }
    return decision;
}

}  // namespace banyan::router
