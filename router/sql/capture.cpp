#include "router/sql/capture.hpp"

#include <algorithm>
#include <optional>

#include "router/catalog/mapping.hpp"
#include "router/sql/before.hpp"
#include "router/sql/functions.hpp"
#include "router/sql/nesting.hpp"
#include "router/sql/target_rows.hpp"

namespace banyan::router {

namespace {

using TablePtr = std::shared_ptr<const Table>;
using Names = std::vector<std::string>;

bool contains(const Names& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

bool has_prefix(const std::string& text, std::string_view prefix) {
    return text.compare(0, prefix.size(), prefix) == 0;
}

bool is_temporary(const RangeName& name, const Names& temporary_tables) {
    return name.schema.empty() ? contains(temporary_tables, name.name)
                               : has_prefix(name.schema, "pg_temp");
}

bool is_system(const RangeName& name, const Catalog::Found& found) {
    return name.schema == "information_schema" || name.schema == "pg_catalog" ||
           has_prefix(name.schema, "pg_toast") ||
           (name.schema.empty() && found.relkind == 0 && has_prefix(name.name, "pg_"));
}

std::string reason_by_kind(char relkind) {
    switch (relkind) {
        case 0:
            return "unknown_relation";
        case 'v':
            return "view";
        case 'm':
            return "materialized_view";
        case 'f':
            return "foreign_table";
        case 'S':
            return "sequence";
        default:
            return "excluded";  // a table that the catalogue leaves out on purpose
    }
}

/// Tables that a write may change; only INSERT without an update part leaves foreign keys alone.
std::vector<TablePtr> suspects(const Catalog& catalog, const Statement& statement,
                               const TablePtr& table) {
    if (statement.kind == StatementKind::insert && !statement.on_conflict_update) {
        return with_siblings(table);
    }
    return reachable_tables(catalog, table);
}

/// The table to capture, or why there is none.
std::variant<TablePtr, NotCaptured> resolve(const Statement& statement, const Catalog& catalog,
                                            const Names& search_path, const std::string& role,
                                            const Names& temporary_tables) {
    const RangeName& target = statement.target;
    if (is_temporary(target, temporary_tables)) {
        return NotCaptured{"temporary_table", {}, true};
    }
    const Catalog::Found found = catalog.find(target, search_path);
    if (is_system(target, found)) {
        return NotCaptured{"system_catalog", {}, true};
    }
    if (found.table == nullptr) {
        std::string reason = reason_by_kind(found.relkind);
        const bool excluded = reason == "excluded";
        return NotCaptured{std::move(reason), {}, excluded};
    }
    const TablePtr& table = found.table;
    if (table->not_captured_because == "excluded") {
        // Its own rows are nobody's concern, but its foreign keys may reach tables that are.
        std::vector<TablePtr> tables = suspects(catalog, statement, table);
        tables.erase(tables.begin());
        const bool alone = tables.empty();
        return NotCaptured{"excluded", std::move(tables), alone};
    }
    std::string reason = table->not_captured_because;
    if (reason.empty() && table->key.empty()) {
        reason = "no_key";
    }
    if (reason.empty()) {
        reason = table->opaque_because;
    }
    if (reason.empty() && table->row_security) {
        reason = "row_security";
    }
    if (reason.empty() && !catalog.may_select(role, table->oid)) {
        reason = "no_select_privilege";
    }
    if (reason.empty() && statement.on_conflict_update &&
        (touches_key(*table, statement.conflict_assigned) ||
         cascades(*table, statement.conflict_assigned, false))) {
        reason = "conflict_changes_key";
    }
    if (!reason.empty()) {
        return NotCaptured{std::move(reason), suspects(catalog, statement, table), false};
    }
    return table;
}

WriteOp op_of(StatementKind kind) {
    return kind == StatementKind::insert   ? WriteOp::insert
           : kind == StatementKind::update ? WriteOp::update
                                           : WriteOp::erase;
}

bool has_fragile_columns(const Table& table) {
    return std::any_of(table.columns.begin(), table.columns.end(),
                       [](const Column& column) { return column.fragile && !column.generated; });
}

void choose_columns(CapturePlan& plan) {
    const Table& table = *plan.table;
    plan.key_only = has_fragile_columns(table);
    plan.images = {{plan.table, 0, 0, std::nullopt, plan.key_only}};
    if (plan.key_only || plan.op == WriteOp::erase) {
        plan.columns = table.key;
        return;
    }
    plan.columns = image_columns(table);
    plan.images.front().count = plan.columns.size();
    for (const std::size_t column : table.key) {
        if (table.columns[column].generated) {
            plan.columns.push_back(column);  // no part of the image, but of the key
        }
    }
}

/// The key, and behind it the values of each table of the mirror.
void choose_mapped_values(CapturePlan& plan, const std::string& qualifier) {
    plan.columns = plan.table->key;
    for (const TablePtr& table : with_siblings(plan.table)) {
        const Mapping& mapping = *table->mapping;
        CapturedImage image;
        image.table = table;
        image.key_only = mapping.by_repair() || has_fragile_columns(*mapping.mirror);
        if (plan.op != WriteOp::erase && !mapping.by_repair()) {
            if (const auto passes = row_passes(mapping, qualifier)) {
                image.passes = plan.width();
                plan.mapped.push_back({*passes, true});
            }
        }
        if (plan.op != WriteOp::erase && !image.key_only) {
            image.first = plan.width();
            const auto values = row_values(mapping, qualifier);
            image.count = values.size();
            for (std::size_t i = 0; i < values.size(); ++i) {
                plan.mapped.push_back({values[i], mapping.mirror->columns[i].binary});
            }
        }
        plan.images.push_back(std::move(image));
    }
}

/// How RETURNING names the target; nullopt if it cannot without being ambiguous.
std::optional<std::string> target_qualifier(const Statement& statement, const std::string& text,
                                            const Table& table, bool leaf) {
    const RangeName& target = statement.target;
    if (!target.alias.empty()) {
        return quote_identifier(target.alias);
    }
    // UPDATE a.t SET ... FROM b.t: the bare name would be ambiguous, the full name is not.
    bool ambiguous = false;
    if (statement.kind != StatementKind::insert && statement.tables.size() > 1) {
        with_stack_for(text, [&] {
            const TargetRows rows(text);
            ambiguous = rows.readable() && rows.ambiguous();
        });
    }
    if (!ambiguous) {
        return quote_identifier(target.name);
    }
    if (!target.schema.empty()) {
        return quote_identifier(target.schema) + "." + quote_identifier(target.name);
    }
    if (leaf) {
        return std::nullopt;
    }
    return quote_identifier(table.schema) + "." + quote_identifier(target.name);
}

}  // namespace

std::variant<CapturePlan, NotCaptured> plan_capture(
    const ParsedQuery& query, const Statement& statement, const Catalog& catalog,
    const std::vector<std::string>& search_path, const std::string& role,
    const std::vector<std::string>& temporary_tables) {
    if (statement.kind != StatementKind::insert && statement.kind != StatementKind::update &&
        statement.kind != StatementKind::erase) {
        return NotCaptured{"not_a_row_write", {}, false};
    }
    auto resolved = resolve(statement, catalog, search_path, role, temporary_tables);
    if (auto* reason = std::get_if<NotCaptured>(&resolved); reason != nullptr) {
        return std::move(*reason);
    }
    CapturePlan plan;
    plan.op = op_of(statement.kind);
    plan.table = std::get<TablePtr>(resolved);
    plan.may_update = statement.on_conflict_update;
    plan.client_returning = statement.returning;
    plan.sql = query.sql.substr(statement.begin, statement.end - statement.begin);
    const bool leaf = catalog.find(statement.target, search_path).leaf;
    const auto qualifier = target_qualifier(statement, plan.sql, *plan.table, leaf);
    if (!qualifier) {
        return NotCaptured{"ambiguous_target", suspects(catalog, statement, plan.table), false};
    }
    if (plan.table->mapped()) {
        choose_mapped_values(plan, *qualifier);
    } else {
        choose_columns(plan);
    }
    if (plan.op != WriteOp::insert) {
        auto before = before_queries(query, statement, catalog, role, plan.table);
        if (auto* reason = std::get_if<NotCaptured>(&before); reason != nullptr) {
            return std::move(*reason);
        }
        plan.before = std::get<std::vector<BeforeQuery>>(std::move(before));
    }
    // On a line of its own: the statement may end in a comment.
    plan.sql += statement.returning ? "\n, " : "\nRETURNING ";
    for (std::size_t i = 0; i < plan.columns.size(); ++i) {
        plan.sql += (i == 0 ? "" : ", ") + *qualifier + "." +
                    quote_identifier(plan.table->columns[plan.columns[i]].name);
    }
    for (const MappedValue& value : plan.mapped) {
        plan.sql += ", " + value.sql;
    }
    return plan;
}

std::vector<std::uint16_t> CapturePlan::formats() const {
    std::vector<std::uint16_t> formats;
    for (const std::size_t column : columns) {
        formats.push_back(table->columns[column].binary ? 1 : 0);
    }
    for (const MappedValue& value : mapped) {
        formats.push_back(value.binary ? 1 : 0);
    }
    return formats;
}

std::string shadow_skip_reason(const ParsedQuery& /*query*/, const Statement& statement,
                               const Catalog& catalog, const std::vector<std::string>& search_path,
                               const std::vector<std::string>& temporary_tables) {
    if (statement.kind != StatementKind::read || statement.tag != "SelectStmt") {
        return "not_select";
    }
    if (statement.locks_rows) {
        return "locks_rows";
    }
    for (const std::string& function : statement.functions) {
        const BuiltinNature nature = builtin_nature(function);
        if (nature == BuiltinNature::settings) {
            return "settings";
        }
        if (nature != BuiltinNature::plain || catalog.is_volatile(function)) {
            return "volatile_function";
        }
    }
    if (statement.volatile_syntax) {
        return "volatile_function";
    }
    for (const RangeName& name : statement.tables) {
        if (is_temporary(name, temporary_tables)) {
            return "temporary_table";
        }
        const Catalog::Found found = catalog.find(name, search_path);
        if (is_system(name, found)) {
            return "system_catalog";
        }
        // A view may hide anything: a volatile function, a table that is not mirrored.
        if (found.table == nullptr || !found.table->captured()) {
            return "unmirrored_table";
        }
        if (found.table->mapped()) {
            return "mapped_table";
        }
    }
    if (statement.unordered_choice) {
        return "limit_without_order";
    }
    return statement.unordered_aggregate ? "unordered_aggregate" : "";
}

bool may_write(const Statement& statement, const Catalog& catalog) {
    return std::any_of(statement.functions.begin(), statement.functions.end(),
                       [&](const std::string& function) {
                           return catalog.is_volatile(function) ||
                                  builtin_nature(function) == BuiltinNature::runs_query;
                       });
}

}  // namespace banyan::router
