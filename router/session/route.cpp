#include "router/session/route.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>

#include "router/session/route_parts.hpp"
#include "router/sql/before.hpp"
#include "router/sql/functions.hpp"

namespace banyan::router {

Decision simple(Route route) {
    Decision decision;
    decision.route = route;
    decision.shadow_skip = "not_select";
    return decision;
}

Decision everything_suspect(Route route, const char* reason) {
    Decision decision = simple(route);
    decision.suspects.push_back({0, reason});
    decision.reason = reason;
    return decision;
}

bool is_temporary(const RangeName& name, const RouteContext& context) {
    return name.schema.starts_with("pg_temp") ||
           (name.schema.empty() && std::count(context.temporary_tables->begin(),
                                              context.temporary_tables->end(), name.name) > 0);
}

/// The mirrored tables a statement names.
std::vector<SuspectMark> named_tables(const Statement& statement, const RouteContext& context,
                                      const char* reason) {
    std::vector<SuspectMark> marks;
    for (const auto& name : statement.tables) {
        if (is_temporary(name, context)) {
            continue;
        }
        const auto found = context.catalog->find(name, *context.search_path);
        if (found.table) {
            for (const auto& table : with_siblings(found.table)) {
                marks.push_back({table->id, reason});
            }
        }
    }
    return marks;
}

Decision measured(const Catalog* catalog, std::string reason) {
    Decision decision = simple(Route::guarded);
    decision.measure = true;
    decision.deep = catalog != nullptr && catalog->deep();
    decision.reason = std::move(reason);
    return decision;
}

/// `word` is in lower case.
bool mentions(const ParsedQuery& query, const Statement& statement, std::string_view word) {
    std::string text = query.sql.substr(statement.begin, statement.end - statement.begin);
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text.find(word) != std::string::npos;
}

bool names_mapped_table(const Statement& statement, const RouteContext& context) {
    return std::any_of(statement.tables.begin(), statement.tables.end(),
                       [&](const RangeName& name) {
                           const auto found = context.catalog->find(name, *context.search_path);
                           return found.table && found.table->mapped();
                       });
}

namespace {

/// What RETURNING does not show of a captured statement: triggers, and what foreign keys carry along.
bool reaches_further(const Statement& statement, const Table& table) {
    const bool inserts = statement.kind == StatementKind::insert;
    return table.user_triggers ||
           cascades(table, inserts ? statement.conflict_assigned : statement.assigned,
                    statement.kind == StatementKind::erase);
}

Decision write(const ParsedQuery& query, const Statement& statement, const RouteContext& context) {
    if (context.catalog == nullptr) {
        return everything_suspect(Route::guarded, "no_catalog");
    }
    if (context.schema_changed && !is_temporary(statement.target, context)) {
        // The catalogue is older than this transaction: it may name columns that are gone.
        Decision decision = measured(nullptr, "after_ddl");
        decision.suspects = named_tables(statement, context, "after_ddl");
        return decision;
    }
    auto planned = plan_capture(query, statement, *context.catalog, *context.search_path,
                                *context.role, *context.temporary_tables);
    if (auto* plan = std::get_if<CapturePlan>(&planned)) {
        const bool further = reaches_further(statement, *plan->table);
        if (further && plan->table->deep) {
            return measured(context.catalog, plan->table->user_triggers ? "trigger" : "cascade");
        }
        Decision decision = simple(Route::capture);
        decision.measure = further;
        decision.capture = std::make_shared<const CapturePlan>(std::move(*plan));
        return decision;
    }
    const auto& refused = std::get<NotCaptured>(planned);
    if (refused.ignorable) {
        return simple(Route::forward);
    }
    Decision decision = measured(context.catalog, refused.reason);
    for (const auto& table : refused.tables) {
        if (!table->deep) {
            decision.suspects.push_back({table->id, refused.reason});
        }
    }
    return decision;
}

Decision read(const ParsedQuery& query, const Statement& statement, const RouteContext& context) {
    Decision decision;
    if (context.catalog == nullptr) {
        decision.shadow_skip = "no_catalog";
        return decision;
    }
    if (std::count(statement.functions.begin(), statement.functions.end(), "set_config") > 0) {
        return simple(Route::settings);
    }
    if (may_write(statement, *context.catalog)) {
        return measured(context.catalog, "volatile_function");
    }
    // A view's query may call anything: what it did is looked at.
    const bool view = std::any_of(
        statement.tables.begin(), statement.tables.end(), [&](const RangeName& name) {
            return !is_temporary(name, context) &&
                   context.catalog->find(name, *context.search_path).relkind == 'v';
        });
    if (view && statement.tag == "SelectStmt") {
        return measured(context.catalog, "view");
    }
    decision.shadow_skip = shadow_skip_reason(query, statement, *context.catalog,
                                              *context.search_path, *context.temporary_tables);
    return decision;
}

Decision copy_from(const ParsedQuery& query, const Statement& statement,
                   const RouteContext& context) {
    if (is_temporary(statement.target, context)) {
        return simple(Route::forward);
    }
    if (context.catalog == nullptr) {
        return everything_suspect(Route::suspect, "copy");
    }
    const auto found = context.catalog->find(statement.target, *context.search_path);
    if (!found.table) {
        // A view's INSTEAD OF trigger may write anywhere.
        const bool nothing = found.relkind != 0 && found.relkind != 'v';
        return nothing ? simple(Route::forward)
                       : measured(context.catalog, found.relkind == 'v' ? "copy_to_view" : "copy");
    }
    std::string reason = "copy";
    if (context.schema_changed) {
        reason = "after_ddl";
    } else if (found.table->user_triggers) {
        reason = "copy_with_triggers";
    } else if (statement.from_stdin) {
        auto planned = plan_copy(query, statement, found);
        if (auto* plan = std::get_if<CopyPlan>(&planned)) {
            Decision decision = simple(Route::copy);
            decision.tables.push_back({found.table->id, false, "copy"});
            decision.copy = std::make_shared<const CopyPlan>(std::move(*plan));
            return decision;
        }
        reason = std::get<NotCaptured>(planned).reason;
    }
    Decision decision = measured(context.catalog, reason);
    for (const auto& table : with_siblings(found.table)) {
        if (!table->deep) {
            decision.suspects.push_back({table->id, reason});
        }
    }
    return decision;
}

Decision truncate(const ParsedQuery& query, const Statement& statement,
                  const RouteContext& context) {
    Decision decision = by_text(query, statement, context, "truncate");
    if (decision.route != Route::mirrored_text || context.catalog == nullptr) {
        return decision;
    }
    const bool mapped = names_mapped_table(statement, context);
    if (context.schema_changed) {
        if (mapped) {  // the text would name other tables there
            decision.route = Route::guarded;
            decision.reason = "after_ddl";
        }
        return decision;
    }
    auto planned = plan_truncate(query, statement, *context.catalog, *context.search_path);
    if (auto* plan = std::get_if<TruncatePlan>(&planned)) {
        decision.suspects.clear();
        for (const auto& table : plan->tables) {
            decision.tables.push_back({table->id, true, "truncate"});
        }
        decision.mirror_sql = std::move(plan->sql);
        decision.reason.clear();
        decision.measure = false;
        return decision;
    }
    decision.reason = std::get<NotCaptured>(planned).reason;
    if (mapped) {
        decision.route = Route::guarded;
    }
    // Its triggers may write anywhere.
    decision.measure = decision.reason == "truncate_with_triggers";
    return decision;
}

/// A procedure may end the transaction that it was called in, unless that was begun by the client.
Decision may_commit(const ParsedQuery& query, const Statement& statement,
                    const RouteContext& context, const char* reason) {
    Decision decision = measured(context.catalog, reason);
    decision.may_commit = context.catalog == nullptr || context.catalog->committing_procedures ||
                          mentions(query, statement, "commit") ||
                          mentions(query, statement, "rollback");
    return decision;
}

// Not mirrored, and no table's rows depend on it; counted all the same.
Decision named_forward(const char* reason) {
    Decision decision = simple(Route::forward);
    decision.reason = reason;
    return decision;
}

// A cursor's query runs when it is fetched from: in this transaction, or, WITH HOLD, in its COMMIT,
// behind every measurement. Not by deep capture: its records are taken right behind the DECLARE.
Decision primary_only(const Statement& statement, const RouteContext& context) {
    if (statement.tag != "DeclareCursorStmt" || context.catalog == nullptr ||
        !may_write(statement, *context.catalog)) {
        return simple(Route::forward);
    }
    return statement.hold ? everything_suspect(Route::guarded, "cursor_with_hold")
                          : measured(nullptr, "cursor");
}

Decision routed(const ParsedQuery& query, const Statement& statement, const RouteContext& context) {
    switch (statement.kind) {
        case StatementKind::read:
            return read(query, statement, context);
        case StatementKind::insert:
        case StatementKind::update:
        case StatementKind::erase:
            return write(query, statement, context);
        case StatementKind::write_opaque:
            return context.catalog == nullptr ? everything_suspect(Route::guarded, "no_catalog")
                                              : measured(context.catalog, "opaque_write");
        case StatementKind::copy_from:
            return copy_from(query, statement, context);
        case StatementKind::truncate:
            return truncate(query, statement, context);
        case StatementKind::ddl:
            return schema_change(query, statement, context);
        case StatementKind::concurrent_ddl:
            return concurrent_schema_change(statement, context);
        case StatementKind::outside_schema:
            return named_forward("outside_schema");
        case StatementKind::call:
            return may_commit(query, statement, context, "call");
        case StatementKind::anonymous_block:
            return may_commit(query, statement, context, "do");
        case StatementKind::execute:
            return measured(context.catalog, "sql_execute");
        case StatementKind::begin:
            return simple(Route::begin);
        case StatementKind::commit:
            return simple(Route::commit);
        case StatementKind::rollback:
            return simple(Route::rollback);
        case StatementKind::savepoint:
            return simple(Route::savepoint);
        case StatementKind::release:
            return simple(Route::release);
        case StatementKind::rollback_to:
            return simple(Route::rollback_to);
        case StatementKind::prepare_transaction:
            return simple(Route::prepare_transaction);
        case StatementKind::commit_prepared: {
            Decision decision = everything_suspect(Route::commit_prepared, "prepared_transaction");
            return decision;
        }
        case StatementKind::set:
        case StatementKind::discard:
            return simple(Route::settings);
        case StatementKind::self_committing:
            return statement.tag == "VacuumStmt" || statement.tag == "ReindexStmt" ||
                           statement.tag == "ClusterStmt"
                       ? simple(Route::forward)
                       : named_forward("outside_schema");
        case StatementKind::rollback_prepared:
        case StatementKind::prepare:
        case StatementKind::deallocate:
            return simple(Route::forward);
        case StatementKind::primary_only:
            return primary_only(statement, context);
    }
    return decide_unparsed(context.catalog);
}

constexpr std::array<std::string_view, 7> lockless_volatile = {
    "nextval", "currval", "lastval", "setval", "random", "gen_random_uuid", "clock_timestamp"};

/// Conservative: a view, a trigger or a function may hide a call of pg_advisory_lock().
bool leaves_nothing(const Decision& decision, const Statement& statement,
                    const RouteContext& context) {
    switch (decision.route) {
        case Route::begin:
        case Route::commit:
        case Route::rollback:
        case Route::savepoint:
        case Route::release:
        case Route::rollback_to:
            return true;
        case Route::forward:
            return statement.kind == StatementKind::read &&
                   (decision.shadow_skip.empty() || decision.shadow_skip == "limit_without_order" ||
                    decision.shadow_skip == "unordered_aggregate");
        case Route::capture: {
            const bool triggers = decision.capture && decision.capture->table->user_triggers;
            return !triggers && context.catalog != nullptr &&
                   std::none_of(statement.functions.begin(), statement.functions.end(),
                                [&](const std::string& function) {
                                    return context.catalog->is_volatile(function) ||
                                           (builtin_is_volatile(function) &&
                                            std::find(lockless_volatile.begin(),
                                                      lockless_volatile.end(),
                                                      function) == lockless_volatile.end());
                                }) &&
                   std::all_of(statement.tables.begin(), statement.tables.end(),
                               [&](const RangeName& name) {
                                   return context.catalog->find(name, *context.search_path).table !=
                                          nullptr;
                               });
        }
        default:
            return false;
    }
}

}  // namespace

Decision decide(const ParsedQuery& query, const Statement& statement, const RouteContext& context) {
    Decision decision = routed(query, statement, context);
    decision.leaves_nothing = leaves_nothing(decision, statement, context);
    return decision;
}

Decision decide_unparsed(const Catalog* catalog) { return measured(catalog, "unparsed"); }

}  // namespace banyan::router
