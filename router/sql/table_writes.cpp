#include "router/sql/table_writes.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "router/sql/collect.hpp"
#include "router/sql/nesting.hpp"
#include "router/sql/tree.hpp"

namespace banyan::router {
namespace {

std::string text_of(const ParsedQuery& query, const Statement& statement) {
    return query.sql.substr(statement.begin, statement.end - statement.begin);
}

/// Calls read(node) with the one statement in `sql`.
template <class Read>
void with_statement(const std::string& sql, const Read& read) {
    with_stack_for(sql, [&] {
        const ParseTree tree = parse_tree(sql);
        if (tree.root != nullptr && tree.root->n_stmts == 1 && tree.root->stmts[0]->stmt != nullptr) {
            read(*tree.root->stmts[0]->stmt);
        }
    });
}

// Options that mean the same on both sides. What is not here (FORCE_QUOTE is an error of COPY FROM;
// later versions have more) is not guessed at.
constexpr std::array<std::string_view, 9> known_options = {
    "format", "delimiter", "null",           "header",    "quote",
    "escape", "encoding",  "force_not_null", "force_null"};

std::optional<std::string> option_value(const PgQuery__Node* value) {
    if (value == nullptr) {
        return "";
    }
    switch (value->node_case) {
        case PG_QUERY__NODE__NODE_STRING:
            return " " + quote_literal(value->string->sval);
        case PG_QUERY__NODE__NODE_BOOLEAN:
            return value->boolean->boolval != 0 ? " TRUE" : " FALSE";
        case PG_QUERY__NODE__NODE_INTEGER:
            return " " + std::to_string(value->integer->ival);
        case PG_QUERY__NODE__NODE_LIST: {
            std::string list;
            for (std::size_t i = 0; i < value->list->n_items; ++i) {
                list += (i == 0 ? " (" : ", ") +
                        quote_identifier(std::string(string_value(value->list->items[i])));
            }
            return list + ")";
        }
        default:
            return std::nullopt;
    }
}

/// The options as SQL, without FREEZE: it asks for a table made in the same transaction, and only
/// changes how soon rows are visible to older snapshots. nullopt: one that is not understood.
std::optional<std::string> options_sql(const PgQuery__CopyStmt& copy, bool& binary) {
    std::string sql;
    for (std::size_t i = 0; i < copy.n_options; ++i) {
        if (copy.options[i]->node_case != PG_QUERY__NODE__NODE_DEF_ELEM) {
            return std::nullopt;
        }
        const PgQuery__DefElem& option = *copy.options[i]->def_elem;
        const std::string name = option.defname;
        if (name == "freeze") {
            continue;
        }
        const auto value = option_value(option.arg);
        if (!value || std::find(known_options.begin(), known_options.end(), name) ==
                          known_options.end()) {
            return std::nullopt;
        }
        binary = binary || (name == "format" && string_value(option.arg) == "binary");
        sql += (sql.empty() ? " WITH (" : ", ") + name + *value;
    }
    return sql.empty() ? sql : sql + ")";
}

/// Indexes of the columns that the data is for; nullopt: one that the table does not have.
std::optional<std::vector<std::size_t>> columns_of(const PgQuery__CopyStmt& copy,
                                                   const Table& table) {
    if (copy.n_attlist == 0) {
        return image_columns(table);
    }
    std::vector<std::size_t> columns;
    for (std::size_t i = 0; i < copy.n_attlist; ++i) {
        const auto name = string_value(copy.attlist[i]);
        const auto found = std::find_if(table.columns.begin(), table.columns.end(),
                                        [&](const Column& column) { return column.name == name; });
        if (found == table.columns.end()) {
            return std::nullopt;
        }
        columns.push_back(static_cast<std::size_t>(found - table.columns.begin()));
    }
    return columns;
}

/// Why the rows do not follow from the data alone; empty if they do.
std::string obstacle(const Table& table, const PgQuery__CopyStmt& copy,
                     const std::vector<std::size_t>& columns, bool binary, bool leaf) {
    const auto listed = [&](std::size_t column) {
        return std::find(columns.begin(), columns.end(), column) != columns.end();
    };
    const auto image = image_columns(table);
    const bool all_listed = std::all_of(image.begin(), image.end(), listed);
    if (leaf && (copy.n_attlist == 0 || !all_listed)) {
        return "copy_into_partition";  // whose columns and defaults may be others than its root's
    }
    for (const std::size_t column : image) {
        if (!listed(column) && !table.columns[column].omittable) {
            return "copy_default";
        }
    }
    for (const std::size_t column : columns) {
        if (table.columns[column].fragile) {
            return "copy_fragile_type";
        }
        if (binary && !table.columns[column].portable) {
            return "copy_binary_type";
        }
    }
    return "";
}

std::variant<CopyPlan, std::string> copy_plan(const PgQuery__CopyStmt& copy,
                                              const std::shared_ptr<const Table>& table,
                                              bool leaf) {
    if (copy.where_clause != nullptr) {
        return "copy_where";  // two servers may evaluate it differently (collations, clocks)
    }
    bool binary = false;
    const auto options = options_sql(copy, binary);
    if (!options) {
        return "copy_option";
    }
    const auto columns = columns_of(copy, *table);
    if (!columns || columns->empty()) {
        return "copy_columns";
    }
    if (std::string reason = obstacle(*table, copy, *columns, binary, leaf); !reason.empty()) {
        return reason;
    }
    std::string sql = "COPY " + table->sql_name() + " (";
    for (const std::size_t column : *columns) {
        sql += (column == columns->front() ? "" : ", ") +
               quote_identifier(table->columns[column].name);
    }
    return CopyPlan{table, sql + ") FROM STDIN" + *options};
}

}  // namespace

std::variant<CopyPlan, NotCaptured> plan_copy(const ParsedQuery& query, const Statement& statement,
                                              const Catalog::Found& found) {
    const auto& table = found.table;
    std::string reason = table->not_captured_because;
    if (reason.empty() && table->key.empty()) {
        reason = "no_key";
    }
    if (reason.empty() && table->row_security) {
        reason = "row_security";
    }
    if (reason.empty() && table->mapped()) {
        reason = "copy_mapped";
    }
    if (reason.empty() && !table->same_columns) {
        reason = "copy_columns";
    }
    if (!reason.empty()) {
        return NotCaptured{std::move(reason), {table}};
    }
    std::variant<CopyPlan, std::string> plan = std::string("copy");
    with_statement(text_of(query, statement), [&](const PgQuery__Node& node) {
        if (node.node_case == PG_QUERY__NODE__NODE_COPY_STMT) {
            plan = copy_plan(*node.copy_stmt, table, found.leaf);
        }
    });
    if (auto* made = std::get_if<CopyPlan>(&plan)) {
        return std::move(*made);
    }
    return NotCaptured{std::get<std::string>(plan), {table}};
}

std::variant<TruncatePlan, NotCaptured> plan_truncate(const ParsedQuery& query,
                                                      const Statement& statement,
                                                      const Catalog& catalog,
                                                      const std::vector<std::string>& search_path) {
    TruncatePlan plan;
    std::string reason = "truncate";
    const auto read = [&](const PgQuery__TruncateStmt& truncate) {
        if (truncate.behavior == PG_QUERY__DROP_BEHAVIOR__DROP_CASCADE) {
            reason = "truncate_cascade";  // which tables refer to these may differ
            return;
        }
        plan.sql = "TRUNCATE TABLE ";
        for (std::size_t i = 0; i < truncate.n_relations; ++i) {
            const PgQuery__RangeVar& relation = *truncate.relations[i]->range_var;
            const auto found = catalog.find(range_name(relation), search_path);
            if (found.leaf) {
                reason = "truncate_partition";  // whose bounds may differ
                return;
            }
            if (!found.table || !found.table->captured()) {
                return;
            }
            if (found.table->user_triggers) {
                reason = "truncate_with_triggers";
                return;
            }
            for (const auto& table : with_siblings(found.table)) {
                const Mapping* mapping = table->mapping.get();
                if (mapping != nullptr && (mapping->by_repair() || mapping->belongs)) {
                    reason = "truncate_mapped";  // its rows there are others, or not all of them
                    return;
                }
                const bool only = relation.inh == 0 && mapping == nullptr;
                plan.sql += (plan.tables.empty() ? "" : ", ") + std::string(only ? "ONLY " : "") +
                            table->on_mirror().sql_name();
                plan.tables.push_back(table);
            }
        }
        plan.sql += truncate.restart_seqs != 0 ? " RESTART IDENTITY" : "";
        reason.clear();
    };
    with_statement(text_of(query, statement), [&](const PgQuery__Node& node) {
        if (node.node_case == PG_QUERY__NODE__NODE_TRUNCATE_STMT) {
            read(*node.truncate_stmt);
        }
    });
    if (!reason.empty()) {
        return NotCaptured{reason, {}};
    }
    return plan;
}

}  // namespace banyan::router
