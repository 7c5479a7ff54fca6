#include "router/catalog/mapping.hpp"

#include <algorithm>

namespace banyan::router {
namespace {

/// expression AS "name", ... of every column of a row image.
std::string named_values(const Mapping& mapping) {
    std::string list;
    for (std::size_t i = 0; i < mapping.values.size(); ++i) {
        list += (i == 0 ? "" : ", ") + mapping.values[i].sql + " AS " +
                quote_identifier(mapping.mirror->columns[i].name);
    }
    return list;
}

std::string names_of(const Table& table, const std::vector<std::size_t>& columns,
                     const std::string& prefix) {
    std::string list;
    for (const std::size_t column : columns) {
        list += (list.empty() ? "" : ", ") + prefix + quote_identifier(table.columns[column].name);
    }
    return list;
}

/// The rows of one table of the primary, under the mirror's names.
std::string mapped_rows(const Table& table) {
    const Mapping& mapping = *table.mapping;
    return "SELECT " + named_values(mapping) + " FROM " + table.only_name() +
           (mapping.passes ? " WHERE " + mapping.passes->sql : "");
}

/// The index of a column among those of a table; nullopt if it has none.
std::optional<std::size_t> column_of(const Table& table, const std::string& name) {
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
        if (table.columns[i].name == name) {
            return i;
        }
    }
    return std::nullopt;
}

/// The first part (`m0`, `m1`, ...) that has the row and the column gives its value.
std::string combined_value(const std::vector<std::shared_ptr<const Table>>& tables,
                           const std::string& name) {
    std::string value = "CASE";
    for (std::size_t i = 0; i < tables.size(); ++i) {
        if (column_of(tables[i]->on_mirror(), name)) {
            const std::string part = "m" + std::to_string(i);
            value += " WHEN " + part + ".banyan_row THEN " + part + "." + quote_identifier(name);
        }
    }
    return value + " END";
}

}  // namespace

std::string primary_rows(const Table& table) {
    if (!table.mapped()) {
        return table.only_name() + " AS t";
    }
    const Mapping& mapping = *table.mapping;
    return "(" + (mapping.combined.empty() ? mapped_rows(table) : mapping.combined) + ") AS t";
}

std::string mirror_rows(const Table& table) {
    const Table& mirror = table.on_mirror();
    if (!table.mapped() || !table.mapping->belongs) {
        return mirror.only_name() + " AS t";
    }
    std::string list;
    for (const Column& column : mirror.columns) {
        list += (list.empty() ? "" : ", ") + quote_identifier(column.name);
    }
    return "(SELECT " + list + " FROM " + mirror.only_name() + " WHERE " + table.mapping->belongs->sql +
           ") AS t";
}

std::string over_row(const RowExpression& expression, const std::string& qualifier) {
    if (qualifier.empty()) {
        return expression.sql;
    }
    if (expression.plain) {
        return qualifier + "." + expression.sql;
    }
    std::string values;
    std::string names;
    for (const std::string& column : expression.columns) {
        const std::string name = quote_identifier(column);
        values += (values.empty() ? "" : ", ") + qualifier + "." + name;
        names += (names.empty() ? "" : ", ") + name;
    }
    // Its bare names mean the row's columns here, whatever else the statement has in scope.
    return values.empty() ? expression.sql
                          : "(SELECT " + expression.sql + " FROM (SELECT " + values +
                                ") AS banyan_row(" + names + "))";
}

std::optional<std::string> row_passes(const Mapping& mapping, const std::string& qualifier) {
    if (!mapping.passes) {
        return std::nullopt;
    }
    return "coalesce(" + over_row(*mapping.passes, qualifier) + ", false)";
}

std::vector<std::string> row_values(const Mapping& mapping, const std::string& qualifier) {
    const auto passes = row_passes(mapping, qualifier);
    std::vector<std::string> values;
    for (const RowExpression& value : mapping.values) {
        const std::string sql = over_row(value, qualifier);
        values.push_back(passes && !value.plain ? "CASE WHEN " + *passes + " THEN " + sql + " END"
                                                : sql);
    }
    return values;
}

std::string combined_rows(const std::vector<std::shared_ptr<const Table>>& tables) {
    const Table& mirror = tables.front()->on_mirror();
    std::string keys;
    std::string joins;
    std::vector<std::string> names;
    for (std::size_t i = 0; i < tables.size(); ++i) {
        const Table& table = *tables[i];
        const std::string part = "m" + std::to_string(i);
        const Table& image = table.on_mirror();
        keys += (i == 0 ? "SELECT " : " UNION SELECT ") + names_of(image, image.key, "") +
                " FROM (" + mapped_rows(table) + ") AS p";
        std::string on;
        for (const std::size_t column : image.key) {
            const std::string name = quote_identifier(image.columns[column].name);
            on += (on.empty() ? "" : " AND ") + part + "." + name + " OPERATOR(pg_catalog.=) k." + name;
        }
        joins += " LEFT JOIN (SELECT true AS banyan_row, p.* FROM (" + mapped_rows(table) +
                 ") AS p) AS " + part + " ON " + on;
        for (const Column& column : image.columns) {
            if (std::find(names.begin(), names.end(), column.name) == names.end()) {
                names.push_back(column.name);
            }
        }
    }
    std::string list;
    for (const std::string& name : names) {
        const auto at = column_of(mirror, name);
        const std::string quoted = quote_identifier(name);
        list += (list.empty() ? "" : ", ") +
                (at && mirror.is_key(*at) ? "k." + quoted : combined_value(tables, name)) + " AS " +
                quoted;
    }
    return "SELECT " + list + " FROM (" + keys + ") AS k" + joins;
}

std::string reverse_check(const std::vector<std::shared_ptr<const Table>>& forward,
                          const std::vector<std::shared_ptr<const Table>>& backward) {
    // For each column of the source that the way back writes: what it would be, and what it is.
    std::vector<std::string> names;
    for (const auto& table : backward) {
        for (const Column& column : table->on_mirror().columns) {
            if (std::find(names.begin(), names.end(), column.name) == names.end()) {
                names.push_back(column.name);
            }
        }
    }
    std::string would_be;
    std::string is;
    std::string passes;
    for (const std::string& name : names) {
        std::string value = "CASE";
        for (std::size_t i = 0; i < forward.size(); ++i) {
            const Mapping& there = *forward[i]->mapping;
            const Mapping& back = *backward[i]->mapping;
            const auto at = column_of(*back.mirror, name);
            if (!at) {
                continue;
            }
            // The target's row, as a sub-select over the source's row `o`.
            std::string row;
            for (std::size_t column = 0; column < there.values.size(); ++column) {
                row += (row.empty() ? "" : ", ") + over_row(there.values[column], "o") + " AS " +
                       quote_identifier(there.mirror->columns[column].name);
            }
            value += " WHEN " + row_passes(there, "o").value_or("true") + " THEN (SELECT " +
                     back.values[*at].sql + " FROM (SELECT " + row + ") AS r)";
        }
        would_be += (would_be.empty() ? "" : ", ") + value + " END";
        is += (is.empty() ? "" : ", ") + ("o." + quote_identifier(name));
    }
    for (const auto& table : forward) {
        passes += (passes.empty() ? "" : " OR ") + row_passes(*table->mapping, "o").value_or("true");
    }
    const Table& source = *forward.front();
    return "SELECT pg_catalog.count(*), pg_catalog.min(ROW(" +
           names_of(source, source.key, "o.") + ")::pg_catalog.text) FROM " + source.only_name() +
           " AS o WHERE (" + passes + ") AND ROW(" + would_be +
           ")::pg_catalog.text IS DISTINCT FROM ROW(" + is + ")::pg_catalog.text";
}

}  // namespace banyan::router
