#include "router/sql/before.hpp"

#include <algorithm>
#include <functional>
#include <optional>

#include "router/sql/nesting.hpp"
#include "router/sql/target_rows.hpp"

namespace banyan::router {

namespace {

using TablePtr = std::shared_ptr<const Table>;
using Names = std::vector<std::string>;
/// A set of rows: gives the SELECT that yields the columns named of each, as a sub-select.
using Rows = std::function<std::optional<std::string>(const Names&)>;

/// Deeper chains of foreign keys are not followed: their tables are named suspect.
constexpr int max_cascade_depth = 8;

bool intersects(const Names& a, const Names& b) {
    return std::any_of(a.begin(), a.end(), [&](const std::string& name) {
        return std::find(b.begin(), b.end(), name) != b.end();
    });
}

Names key_names(const Table& table) {
    Names names;
    for (const std::size_t column : table.key) {
        names.push_back(table.columns[column].name);
    }
    return names;
}

/// `"a", "b"`, each behind `prefix`.
std::string joined(const Names& names, std::string_view prefix = {}) {
    std::string list;
    for (const std::string& name : names) {
        list += list.empty() ? "" : ", ";
        list += prefix;
        list += quote_identifier(name);
    }
    return list;
}

/// What happens to the rows that a foreign key carries along.
ReferentialAction action_of(const Cascade& cascade, const Names& changed, bool erases) {
    if (erases) {
        return cascade.on_delete;
    }
    return intersects(cascade.parent_columns, changed) ? cascade.on_update
                                                       : ReferentialAction::none;
}

bool is_excluded(const Table& table) {
    return table.not_captured_because == "excluded";
}

class CascadeWalk {
   public:
    /// `moving`: the table whose keys the statement changes, if it changes any.
    CascadeWalk(const Catalog& catalog, const std::string& role, const Table* moving,
                std::vector<BeforeQuery>& queries)
        : catalog_(catalog), role_(role), moving_(moving), queries_(queries) {}

    /// Follows the foreign keys that point at `rows` of `table`, which are deleted (`erases`) or
    /// have their `changed` columns changed. Empty: done; else the reason it cannot be.
    std::string follow(const TablePtr& table, Rows rows, const Names& changed, bool erases,
                       int depth) {
        if (depth > max_cascade_depth) {
            return "cascade_too_deep";
        }
        if (erases) {
            // A tree in one table (parent_id REFERENCES itself) has any depth: one recursive query.
            if (const auto own = self_cascades(*table); !own.empty()) {
                rows = closure(table, rows, own);
                if (std::string reason = add(table, rows, true); !reason.empty()) {
                    return reason;
                }
            }
        }
        for (const Cascade& cascade : table->cascades) {
            const ReferentialAction action = action_of(cascade, changed, erases);
            if (action == ReferentialAction::none ||
                (erases && action == ReferentialAction::cascade && is_self(*table, cascade))) {
                continue;
            }
            if (std::string reason = follow_one(cascade, rows, action, erases, depth);
                !reason.empty()) {
                return reason;
            }
        }
        return {};
    }

   private:
    bool is_self(const Table& table, const Cascade& cascade) const {
        return catalog_.root_of(cascade.child) == table.oid;
    }

    std::vector<const Cascade*> self_cascades(const Table& table) const {
        std::vector<const Cascade*> own;
        for (const Cascade& cascade : table.cascades) {
            if (cascade.on_delete == ReferentialAction::cascade && is_self(table, cascade)) {
                own.push_back(&cascade);
            }
        }
        return own;
    }

    std::string follow_one(const Cascade& cascade, const Rows& rows, ReferentialAction action,
                           bool erases, int depth) {
        const TablePtr child = catalog_.table_by_oid(catalog_.root_of(cascade.child));
        if (child == nullptr ||
            (!is_excluded(*child) && (!child->captured() || !child->opaque_because.empty()))) {
            return "cascade_uncaptured";
        }
        const bool child_erased = erases && action == ReferentialAction::cascade;
        if (!child_erased && touches_key(*child, cascade.child_columns)) {
            // The new key is known only when it is done, and RETURNING does not show it.
            return "cascade_changes_key";
        }
        if (!child_erased && child.get() == moving_) {
            // A row may refer to itself, or to another that moves too: it is listed by the key it
            // has before, and RETURNING shows its new one with the reference not carried along yet.
            return "cascade_to_moved_rows";
        }
        const Rows children = [child, cascade, rows](const Names& columns) {
            std::optional<std::string> parents = rows(cascade.parent_columns);
            if (parents) {
                *parents = "SELECT " + joined(columns) + " FROM " + child->only_name() + " WHERE (" +
                           joined(cascade.child_columns) + ") IN (" + *parents + ")";
            }
            return parents;
        };
        if (!is_excluded(*child)) {
            if (std::string reason = add(child, children, child_erased); !reason.empty()) {
                return reason;
            }
        } else if (!catalog_.may_select(role_, child->oid)) {
            return "no_select_privilege";
        }
        return follow(child, children, cascade.child_columns, child_erased, depth + 1);
    }

    std::string add(const TablePtr& table, const Rows& rows, bool erases) {
        if (!catalog_.may_select(role_, table->oid)) {
            return "no_select_privilege";
        }
        if (table->row_security) {
            return "row_security";
        }
        const std::optional<std::string> select = rows(key_names(*table));
        if (!select) {
            return "not_rewritable";
        }
        std::string sql = *select + " FOR UPDATE";
        const bool known = std::any_of(queries_.begin(), queries_.end(), [&](const auto& query) {
            return query.sql == sql && query.erases == erases;
        });
        if (!known) {
            queries_.push_back(BeforeQuery{std::move(sql), table, erases, false});
        }
        return {};
    }

    /// `rows` and all that hang below them by the table's references to itself.
    static Rows closure(const TablePtr& table, const Rows& rows,
                        const std::vector<const Cascade*>& own) {
        Names members = key_names(*table);
        std::string
            link;  // the recursive term may name banyan_rows once only: one joined condition
        for (const Cascade* cascade : own) {
            for (const std::string& name : cascade->parent_columns) {
                if (std::find(members.begin(), members.end(), name) == members.end()) {
                    members.push_back(name);
                }
            }
            link += (link.empty() ? "(" : " OR (") + joined(cascade->child_columns, "child.") +
                    ") = (" + joined(cascade->parent_columns, "banyan_rows.") + ")";
        }
        return [table, rows, members, link](const Names& columns) {
            std::optional<std::string> base = rows(members);
            if (base) {
                const std::string key = joined(key_names(*table));
                *base = "SELECT " + joined(columns) + " FROM " + table->only_name() + " WHERE (" +
                        key + ") IN (WITH RECURSIVE banyan_rows(" + joined(members) + ") AS ((" +
                        *base + ") UNION SELECT " + joined(members, "child.") + " FROM " +
                        table->only_name() + " AS child JOIN banyan_rows ON " + link + ") SELECT " +
                        key + " FROM banyan_rows)";
            }
            return base;
        };
    }

    const Catalog& catalog_;
    const std::string& role_;
    const Table* moving_;
    std::vector<BeforeQuery>& queries_;
};

}  // namespace

std::vector<TablePtr> reachable_tables(const Catalog& catalog, const TablePtr& table) {
    std::vector<TablePtr> tables = {table};
    for (std::size_t i = 0; i < tables.size(); ++i) {
        const TablePtr parent = tables[i];
        for (const Cascade& cascade : parent->cascades) {
            const TablePtr child = catalog.table_by_oid(catalog.root_of(cascade.child));
            if (child != nullptr &&
                std::find(tables.begin(), tables.end(), child) == tables.end()) {
                tables.push_back(child);
            }
        }
    }
    std::vector<TablePtr> all;
    for (const TablePtr& each : tables) {
        const auto parts = with_siblings(each);
        all.insert(all.end(), parts.begin(), parts.end());
    }
    return all;
}

bool touches_key(const Table& table, const std::vector<std::string>& columns) {
    return intersects(key_names(table), columns);
}

bool cascades(const Table& table, const std::vector<std::string>& columns, bool erases) {
    return std::any_of(table.cascades.begin(), table.cascades.end(), [&](const Cascade& cascade) {
        return action_of(cascade, columns, erases) != ReferentialAction::none;
    });
}

std::variant<std::vector<BeforeQuery>, NotCaptured> before_queries(const ParsedQuery& query,
                                                                   const Statement& statement,
                                                                   const Catalog& catalog,
                                                                   const std::string& role,
                                                                   const TablePtr& table) {
    std::vector<BeforeQuery> queries;
    const bool erases = statement.kind == StatementKind::erase;
    const bool key_changes = !erases && touches_key(*table, statement.assigned);
    const bool carries = cascades(*table, statement.assigned, erases);
    if (!key_changes && !carries) {
        return queries;
    }
    const std::string text = query.sql.substr(statement.begin, statement.end - statement.begin);
    std::string reason = "not_rewritable";
    with_stack_for(text, [&] {
        const TargetRows target(text);
        if (!target.readable()) {
            return;
        }
        if (target.current_of()) {
            reason = "where_current_of";
            return;
        }
        if (target.ambiguous()) {
            reason = "ambiguous_target";
            return;
        }
        if (!target.repeatable(catalog)) {
            reason = "volatile_condition";
            return;
        }
        const std::optional<std::string> own = target.select(key_names(*table), true);
        if (!own) {
            return;
        }
        // Locked first, so that no child row can be added to them from here on. What a DELETE
        // removes of its own table RETURNING shows as well; it is marked alike for clarity.
        queries.push_back(BeforeQuery{*own, table, erases || key_changes, true});
        const Rows rows = [&](const Names& columns) { return target.select(columns, false); };
        reason = CascadeWalk(catalog, role, key_changes ? table.get() : nullptr, queries)
                     .follow(table, rows, statement.assigned, erases, 1);
    });
    if (!reason.empty()) {
        return NotCaptured{reason, reachable_tables(catalog, table), false};
    }
    return queries;
}

}  // namespace banyan::router
