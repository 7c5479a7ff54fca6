#include "router/sql/expression.hpp"

#include <algorithm>
#include <string>

#include "router/sql/collect.hpp"
#include "router/sql/nesting.hpp"
#include "router/sql/tree.hpp"

namespace banyan::router {

namespace {

constexpr std::size_t max_expression_bytes = 10'000;

/// Walks one expression; the first thing that has no place in it ends the walk.
class Reader {
   public:
    void visit(const ProtobufCMessage& message) {
        if (!problem.empty()) {
            return;
        }
        const ProtobufCMessageDescriptor* kind = message.descriptor;
        if (kind == &pg_query__column_ref__descriptor) {
            column(reinterpret_cast<const PgQuery__ColumnRef&>(message));
            return;
        }
        if (kind == &pg_query__type_name__descriptor) {
            return;
        }
        if (kind == &pg_query__sub_link__descriptor ||
            kind == &pg_query__select_stmt__descriptor) {
            problem = "has a sub-select, which may depend on other rows; use the row's columns only";
        } else if (kind == &pg_query__param_ref__descriptor) {
            problem = "has a parameter; write its value";
        } else if (kind == &pg_query__set_to_default__descriptor) {
            problem = "has DEFAULT; leave the column out to have its default";
        } else if (kind == &pg_query__func_call__descriptor) {
            call(reinterpret_cast<const PgQuery__FuncCall&>(message));
        }
        for_each_field(message, [this](const ProtobufCFieldDescriptor&, ProtobufCMessage& child) {
            visit(child);
        });
    }

    std::vector<std::string> columns;
    std::string problem;

   private:
    void column(const PgQuery__ColumnRef& reference) {
        const std::string name(
            reference.n_fields == 1 ? string_value(reference.fields[0]) : std::string_view());
        if (name.empty()) {
            problem = "names a column by more than its bare name (or with *); write the name alone";
        } else if (std::find(columns.begin(), columns.end(), name) == columns.end()) {
            columns.push_back(name);
        }
    }

    void call(const PgQuery__FuncCall& function) {
        if (function.agg_star != 0 || function.agg_distinct != 0 || function.n_agg_order > 0 ||
            function.agg_filter != nullptr || function.agg_within_group != 0) {
            problem = "calls an aggregate, which needs other rows; use the row's columns only";
        } else if (function.over != nullptr) {
            problem = "calls a window function, which needs other rows; use the row's columns only";
        }
    }
};

Result<RowExpression> read(const std::string& text) {
    // On lines of its own: a comment ends there.
    const ParseTree tree = parse_tree("SELECT (\n" + text + "\n)");
    if (tree.root == nullptr) {
        return Error{"is not an SQL expression: " + tree.error, ""};
    }
    const bool one = tree.root->n_stmts == 1 && tree.root->stmts[0]->stmt->node_case ==
                                                    PG_QUERY__NODE__NODE_SELECT_STMT;
    const PgQuery__SelectStmt* select = one ? tree.root->stmts[0]->stmt->select_stmt : nullptr;
    const bool bare = select != nullptr && select->n_target_list == 1 &&
                      select->n_from_clause == 0 && select->where_clause == nullptr &&
                      select->n_sort_clause == 0 && select->n_group_clause == 0 &&
                      select->having_clause == nullptr && select->limit_count == nullptr &&
                      select->limit_offset == nullptr && select->n_distinct_clause == 0 &&
                      select->into_clause == nullptr && select->with_clause == nullptr &&
                      select->n_locking_clause == 0 && select->n_window_clause == 0 &&
                      select->larg == nullptr && select->n_values_lists == 0;
    const PgQuery__ResTarget* target = bare ? select->target_list[0]->res_target : nullptr;
    if (target == nullptr || target->name == nullptr || *target->name != '\0' ||
        target->val == nullptr) {
        return Error{"is not one SQL expression; write one, as in lower(email)", ""};
    }
    Reader reader;
    reader.visit(target->val->base);
    if (!reader.problem.empty()) {
        return Error{reader.problem, ""};
    }
    Statement found;
    collect(*tree.root->stmts[0]->stmt, found);
    if (found.volatile_syntax) {
        return Error{
            "depends on the clock, the session or where the row is stored; its value must follow "
            "from the row's columns alone",
            ""};
    }
    RowExpression expression;
    expression.sql = text;
    expression.columns = std::move(reader.columns);
    expression.plain = target->val->node_case == PG_QUERY__NODE__NODE_COLUMN_REF;
    if (expression.plain) {
        expression.sql = quote_identifier(expression.columns.front());
    } else {
        expression.sql = "(\n" + text + "\n)";
    }
    return expression;
}

}  // namespace

Result<RowExpression> read_expression(std::string_view text) {
    if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
        return Error{"is empty; write an SQL expression", ""};
    }
    if (text.size() > max_expression_bytes || text.find('\0') != std::string_view::npos) {
        return Error{"is not an SQL expression of at most 10 kB", ""};
    }
    Result<RowExpression> result = Error{"nests too deep", ""};
    with_stack_for(text, [&] { result = read(std::string(text)); });
    return result;
}

}  // namespace banyan::router
