#include "router/sql/collect.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "router/sql/functions.hpp"

namespace banyan::router {

namespace {

std::string lower(std::string_view text) {
    std::string result(text);
    std::transform(result.begin(), result.end(), result.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

template <class T>
void add_once(std::vector<T>& list, T item) {
    if (std::find(list.begin(), list.end(), item) == list.end()) {
        list.push_back(std::move(item));
    }
}

/// Columns that every table has and whose values are a server's own.
bool is_system_column(std::string_view name) {
    static constexpr std::array<std::string_view, 6> names = {"ctid", "xmin", "xmax",
                                                              "cmin", "cmax", "tableoid"};
    return std::find(names.begin(), names.end(), name) != names.end();
}

/// 'now'::timestamp and its like read the clock when they are parsed.
bool is_clock_word(std::string_view text) {
    static constexpr std::array<std::string_view, 4> words = {"now", "today", "tomorrow",
                                                              "yesterday"};
    const std::size_t first = text.find_first_not_of(' ');
    if (first == std::string_view::npos) {
        return false;
    }
    const std::string word = lower(text.substr(first, text.find_last_not_of(' ') - first + 1));
    return std::find(words.begin(), words.end(), word) != words.end();
}

class Collector {
   public:
    explicit Collector(Statement& statement) : statement_(statement) {}

    void visit(const ProtobufCMessage& message, bool from_item) {
        const ProtobufCMessageDescriptor* kind = message.descriptor;
        if (kind == &pg_query__range_var__descriptor) {
            relation(reinterpret_cast<const PgQuery__RangeVar&>(message), from_item);
            return;
        }
        if (kind == &pg_query__locking_clause__descriptor) {
            statement_.locks_rows = true;  // its names are aliases, not tables
            return;
        }
        if (kind == &pg_query__type_name__descriptor) {
            return;
        }
        if (kind == &pg_query__column_ref__descriptor) {
            column(reinterpret_cast<const PgQuery__ColumnRef&>(message));
            return;
        }
        if (const PgQuery__WithClause* with = nullptr; statement_node(message, with)) {
            const std::size_t scope = scope_.size();
            open_with(with);
            children(message);
            scope_.resize(scope);
            return;
        }
        note(message);
        children(message);
    }

    Collected collected;

   private:
    void children(const ProtobufCMessage& message) {
        // A RangeVar that is a member by itself (INSERT's relation) is never a WITH name; one in
        // a list of nodes may be.
        const bool node = message.descriptor == &pg_query__node__descriptor;
        for_each_field(message, [&](const ProtobufCFieldDescriptor&, ProtobufCMessage& child) {
            if (child.descriptor != &pg_query__with_clause__descriptor) {
                visit(child, node);
            }
        });
    }

    /// SELECT, INSERT, UPDATE, DELETE, MERGE: the statements that may have WITH.
    bool statement_node(const ProtobufCMessage& message, const PgQuery__WithClause*& with) {
        const ProtobufCMessageDescriptor* kind = message.descriptor;
        if (kind == &pg_query__select_stmt__descriptor) {
            const auto& select = reinterpret_cast<const PgQuery__SelectStmt&>(message);
            with = select.with_clause;
            const bool limited = select.limit_count != nullptr || select.limit_offset != nullptr;
            if ((limited || select.n_distinct_clause > 1 || distinct_on(select)) &&
                select.n_sort_clause == 0) {
                statement_.unordered_choice = true;
            }
            return true;
        }
        if (kind == &pg_query__insert_stmt__descriptor) {
            with = reinterpret_cast<const PgQuery__InsertStmt&>(message).with_clause;
        } else if (kind == &pg_query__update_stmt__descriptor) {
            with = reinterpret_cast<const PgQuery__UpdateStmt&>(message).with_clause;
        } else if (kind == &pg_query__delete_stmt__descriptor) {
            with = reinterpret_cast<const PgQuery__DeleteStmt&>(message).with_clause;
        } else if (kind == &pg_query__merge_stmt__descriptor) {
            with = reinterpret_cast<const PgQuery__MergeStmt&>(message).with_clause;
        } else {
            return false;
        }
        collected.modifying_with = collected.modifying_with || in_with_ > 0;
        return true;
    }

    /// Plain DISTINCT is one empty node; DISTINCT ON lists its expressions.
    static bool distinct_on(const PgQuery__SelectStmt& select) {
        return select.n_distinct_clause == 1 &&
               select.distinct_clause[0]->node_case != PG_QUERY__NODE__NODE__NOT_SET;
    }

    void open_with(const PgQuery__WithClause* with) {
        if (with == nullptr) {
            return;
        }
        ++in_with_;
        const bool recursive = with->recursive != 0;
        for (std::size_t i = 0; recursive && i < with->n_ctes; ++i) {
            scope_.emplace_back(with->ctes[i]->common_table_expr->ctename);
        }
        for (std::size_t i = 0; i < with->n_ctes; ++i) {
            const PgQuery__CommonTableExpr& cte = *with->ctes[i]->common_table_expr;
            visit(cte.base, false);
            if (!recursive) {
                scope_.emplace_back(cte.ctename);  // seen by those behind it, not by itself
            }
        }
        --in_with_;
    }

    void relation(const PgQuery__RangeVar& relation, bool from_item) {
        const bool with_name =
            from_item && relation.schemaname[0] == '\0' &&
            std::find(scope_.begin(), scope_.end(), relation.relname) != scope_.end();
        if (!with_name) {
            add_once(statement_.tables, range_name(relation));
        }
    }

    void column(const PgQuery__ColumnRef& column) {
        if (column.n_fields > 0 &&
            is_system_column(string_value(column.fields[column.n_fields - 1]))) {
            statement_.volatile_syntax = true;
        }
    }

    void note(const ProtobufCMessage& message) {
        const ProtobufCMessageDescriptor* kind = message.descriptor;
        if (kind == &pg_query__func_call__descriptor) {
            const auto& call = reinterpret_cast<const PgQuery__FuncCall&>(message);
            if (call.n_funcname > 0) {
                std::string name = lower(string_value(call.funcname[call.n_funcname - 1]));
                if (call.n_agg_order == 0 && call.over == nullptr && depends_on_order(name)) {
                    statement_.unordered_aggregate = true;
                }
                add_once(statement_.functions, std::move(name));
            }
        } else if (kind == &pg_query__param_ref__descriptor) {
            collected.parameters = true;
        } else if (kind == &pg_query__sqlvalue_function__descriptor ||
                   kind == &pg_query__range_table_sample__descriptor) {
            statement_.volatile_syntax = true;
        } else if (kind == &pg_query__type_cast__descriptor) {
            const auto& cast = reinterpret_cast<const PgQuery__TypeCast&>(message);
            if (is_clock_word(string_value(cast.arg))) {
                statement_.volatile_syntax = true;
            }
        }
    }

    Statement& statement_;
    std::vector<std::string_view> scope_;
    int in_with_ = 0;
};

}  // namespace

RangeName range_name(const PgQuery__RangeVar& relation) {
    return RangeName{relation.schemaname, relation.relname,
                     relation.alias != nullptr ? relation.alias->aliasname : ""};
}

Collected collect(const PgQuery__Node& top, Statement& statement) {
    Collector collector(statement);
    collector.visit(top.base, false);
    return collector.collected;
}

bool repeats_exactly(const ProtobufCMessage& part, const Catalog& catalog) {
    Statement found;
    Collector collector(found);
    collector.visit(part, false);
    // Row locks with a limit or SKIP LOCKED choose by what others hold at that instant.
    return !found.locks_rows && !found.unordered_choice &&
           std::none_of(found.functions.begin(), found.functions.end(), [&](const auto& name) {
               return builtin_is_volatile(name) || catalog.is_volatile(name);
           });
}

}  // namespace banyan::router
