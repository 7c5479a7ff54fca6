#include "router/sql/target_rows.hpp"

#include <algorithm>

#include "router/sql/collect.hpp"

namespace banyan::router {

namespace {

std::string visible_name(const PgQuery__RangeVar& relation) {
    return relation.alias != nullptr ? relation.alias->aliasname : relation.relname;
}

/// A relation of that name, without an alias, among FROM's items and joins (not in sub-selects,
/// whose names are their own).
bool names_relation(const PgQuery__Node& item, std::string_view name) {
    if (item.node_case == PG_QUERY__NODE__NODE_RANGE_VAR) {
        return item.range_var->alias == nullptr && item.range_var->relname == name;
    }
    if (item.node_case == PG_QUERY__NODE__NODE_JOIN_EXPR) {
        const PgQuery__JoinExpr& join = *item.join_expr;
        return (join.larg != nullptr && names_relation(*join.larg, name)) ||
               (join.rarg != nullptr && names_relation(*join.rarg, name));
    }
    return false;
}

}  // namespace

TargetRows::TargetRows(const std::string& sql) : tree_(parse_tree(sql)) {
    if (tree_.root == nullptr || tree_.root->n_stmts != 1) {
        return;
    }
    const PgQuery__Node& top = *tree_.root->stmts[0]->stmt;
    if (top.node_case == PG_QUERY__NODE__NODE_UPDATE_STMT) {
        PgQuery__UpdateStmt& update = *top.update_stmt;
        relation_ = update.relation;
        others_.assign(update.from_clause, update.from_clause + update.n_from_clause);
        where_ = update.where_clause;
        with_ = update.with_clause;
    } else if (top.node_case == PG_QUERY__NODE__NODE_DELETE_STMT) {
        PgQuery__DeleteStmt& erase = *top.delete_stmt;
        relation_ = erase.relation;
        others_.assign(erase.using_clause, erase.using_clause + erase.n_using_clause);
        where_ = erase.where_clause;
        with_ = erase.with_clause;
    }
}

bool TargetRows::current_of() const {
    return where_ != nullptr && where_->node_case == PG_QUERY__NODE__NODE_CURRENT_OF_EXPR;
}

bool TargetRows::ambiguous() const {
    return relation_->alias == nullptr &&
           std::any_of(others_.begin(), others_.end(), [&](const PgQuery__Node* item) {
               return names_relation(*item, relation_->relname);
           });
}

bool TargetRows::repeatable(const Catalog& catalog) const {
    return (where_ == nullptr || repeats_exactly(where_->base, catalog)) &&
           (with_ == nullptr || repeats_exactly(with_->base, catalog)) &&
           std::all_of(others_.begin(), others_.end(), [&](const PgQuery__Node* item) {
               return repeats_exactly(item->base, catalog);
           });
}

std::optional<std::string> TargetRows::select(const std::vector<std::string>& columns,
                                              bool lock) const {
    const std::string target = quote_identifier(visible_name(*relation_));
    std::string text = "SELECT ";
    for (const std::string& column : columns) {
        text += (&column == &columns.front() ? "" : ", ") + target + "." + quote_identifier(column);
    }
    // Not "text" + FROM the statement: a frame parsed from text, into which the statement's own
    // nodes are hung, needs no knowledge of where its clauses start and end.
    text += " FROM target";
    if (lock) {
        text += " FOR UPDATE OF " + target;
    }
    ParseTree frame = parse_tree(text);
    if (frame.root == nullptr) {
        return std::nullopt;
    }
    PgQuery__SelectStmt& select = *frame.root->stmts[0]->stmt->select_stmt;

    PgQuery__Node relation = PG_QUERY__NODE__INIT;
    relation.node_case = PG_QUERY__NODE__NODE_RANGE_VAR;
    relation.range_var = relation_;
    std::vector<PgQuery__Node*> from = {&relation};
    from.insert(from.end(), others_.begin(), others_.end());

    select.from_clause = from.data();
    select.n_from_clause = from.size();
    select.where_clause = where_;
    select.with_clause = with_;
    return deparse_exactly(*frame.root);
}

}  // namespace banyan::router
