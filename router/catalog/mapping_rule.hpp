// One [[mapping]] of the configuration: which table of the source becomes which table of the target,
// and how. Only what the file says; whether the databases agree is found out when the catalogue is
// read (mapped_tables.hpp). Pure values.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace banyan::router {

/// An SQL expression over one row, as read_expression() (router/sql/expression.hpp) gives it.
struct RowExpression {
    std::string sql;                   ///< columns by their bare names
    std::vector<std::string> columns;  ///< that it names, unquoted, each once
    bool plain = false;                ///< nothing but columns[0]

    friend bool operator==(const RowExpression&, const RowExpression&) = default;
};

struct TableName {
    std::string schema;
    std::string name;

    std::string text() const { return schema + "." + name; }
    friend auto operator<=>(const TableName&, const TableName&) = default;
};

struct MappingRule {
    TableName source;
    TableName target;
    /// Target column -> expression over the source's row. Columns of the target that are not named
    /// take the source's column of the same name, if there is one.
    std::map<std::string, RowExpression> columns;
    /// Rows of the source that belong to the target; empty sql: all.
    RowExpression where;
    /// Source column -> expression over the target's row. What is not named here follows from plain
    /// columns.
    std::map<std::string, RowExpression> reverse;
    /// Columns of the source that no target has.
    std::vector<std::string> ignore;

    /// "public.customer->crm.person"
    std::string name() const { return source.text() + "->" + target.text(); }
};

}  // namespace banyan::router
