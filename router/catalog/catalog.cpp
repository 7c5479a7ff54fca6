#include "router/catalog/catalog.hpp"

#include <algorithm>
#include <utility>

#include "router/catalog/mapping.hpp"

namespace banyan::router {

namespace {

std::string name_key(std::string_view schema, std::string_view name) {
    std::string key;
    key.reserve(schema.size() + 1 + name.size());
    key.append(schema);
    key.push_back('\0');
    key.append(name);
    return key;
}

/// Types whose equality is coarser than identity (1.0 = 1.00 for numeric, -0 = 0 for floats,
/// '1 day' = '24 hours' for intervals): an upsert that meets an equal key must still write it.
/// Types made by users (citext among them) are taken to be so too.
bool equal_values_may_differ(Oid type) {
    constexpr Oid first_user_oid = 16384;
    constexpr Oid float4 = 700;
    constexpr Oid float8 = 701;
    constexpr Oid float4_array = 1021;
    constexpr Oid float8_array = 1022;
    constexpr Oid interval = 1186;
    constexpr Oid numeric_array = 1231;
    constexpr Oid numeric = 1700;
    constexpr Oid jsonb = 3802;
    constexpr Oid numrange = 3906;
    return type == float4 || type == float8 || type == float4_array || type == float8_array ||
           type == interval || type == numeric_array || type == numeric || type == jsonb ||
           type == numrange || type >= first_user_oid;
}

std::string column_list(const Table& table, const std::vector<std::size_t>& columns) {
    std::string list;
    for (const std::size_t column : columns) {
        if (!list.empty()) {
            list += ", ";
        }
        list += quote_identifier(table.columns[column].name);
    }
    return list;
}

}  // namespace

std::string Table::sql_name() const {
    return quote_identifier(schema) + "." + quote_identifier(name);
}

std::string Table::only_name() const {
    return (partitioned ? "" : "ONLY ") + sql_name();
}

const Table& Table::on_mirror() const { return mapping ? *mapping->mirror : *this; }

std::string Table::display_name() const { return mapping ? mapping->name : schema + "." + name; }

std::uint32_t leading_key_type(const Table& table) {
    if (table.key.empty() || (table.mapped() && !table.mapping->plain)) {
        return 0;
    }
    const Table& mirror = table.on_mirror();
    const Oid type = table.columns[table.key.front()].type;
    return !mirror.key.empty() && mirror.columns[mirror.key.front()].type == type ? type : 0;
}

bool Table::is_key(std::size_t column) const {
    return std::find(key.begin(), key.end(), column) != key.end();
}

void Catalog::add_table(std::shared_ptr<const Table> table) {
    deep_ = deep_ || table->deep;
    // The first of a split table's: the others are its siblings.
    by_name_.try_emplace(name_key(table->schema, table->name),
                         Entry{table, table->partitioned ? 'p' : 'r', 0});
    by_oid_.try_emplace(table->oid, table);
    if (table->id != 0) {
        by_id_[table->id] = table;
    }
    tables_.push_back(std::move(table));
}

void Catalog::add_partition(std::string schema, std::string name, Oid leaf, Oid root) {
    // The root is looked up when the name is: it may be added after its leaves.
    by_name_[name_key(schema, name)] = Entry{nullptr, 'r', leaf};
    root_of_leaf_[leaf] = root;
}

void Catalog::add_other_relation(std::string schema, std::string name, char relkind) {
    by_name_[name_key(schema, name)] = Entry{nullptr, relkind, 0};
}

void Catalog::add_volatile_function(std::string name) {
    volatile_functions_.insert(std::move(name));
}

void Catalog::grant_select(const std::string& role, Oid oid) {
    selectable_[role].insert(oid);
}

Catalog::Found Catalog::find(const RangeName& name,
                             const std::vector<std::string>& search_path) const {
    const auto look = [&](std::string_view schema) -> const Entry* {
        const auto entry = by_name_.find(name_key(schema, name.name));
        return entry == by_name_.end() ? nullptr : &entry->second;
    };
    const Entry* entry = nullptr;
    if (!name.schema.empty()) {
        entry = look(name.schema);
    } else {
        // pg_catalog comes first unless the path itself says where (namespace.c,
        // recomputeNamespacePath).
        if (std::find(search_path.begin(), search_path.end(), "pg_catalog") == search_path.end()) {
            entry = look("pg_catalog");
        }
        for (auto schema = search_path.begin(); entry == nullptr && schema != search_path.end();
             ++schema) {
            entry = look(*schema);
        }
    }
    if (entry == nullptr) {
        return {};
    }
    if (entry->leaf_oid != 0) {
        return Found{table_by_oid(root_of(entry->leaf_oid)), entry->relkind, true};
    }
    return Found{entry->table, entry->relkind, false};
}

std::shared_ptr<const Table> Catalog::table_by_oid(Oid oid) const {
    const auto found = by_oid_.find(oid);
    return found == by_oid_.end() ? nullptr : found->second;
}

std::shared_ptr<const Table> Catalog::table_by_id(TableId id) const {
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : found->second;
}

bool Catalog::is_volatile(std::string_view function) const {
    return volatile_functions_.find(std::string(function)) != volatile_functions_.end();
}

bool Catalog::may_select(const std::string& role, Oid oid) const {
    const auto found = selectable_.find(role);
    return found != selectable_.end() && found->second.find(oid) != found->second.end();
}

Oid Catalog::root_of(Oid oid) const {
    // Partitions of partitions: a leaf may name its direct parent. Bounded against a wrong loop.
    for (int level = 0; level < 32; ++level) {
        const auto found = root_of_leaf_.find(oid);
        if (found == root_of_leaf_.end() || found->second == oid) {
            break;
        }
        oid = found->second;
    }
    return oid;
}

std::string quote_identifier(std::string_view name) {
    std::string quoted;
    quoted.reserve(name.size() + 2);
    quoted.push_back('"');
    for (const char c : name) {
        if (c == '"') {
            quoted.push_back('"');
        }
        quoted.push_back(c);
    }
    quoted.push_back('"');
    return quoted;
}

std::string quote_literal(std::string_view text) {
    // E'...' reads the same with standard_conforming_strings on and off; the blank keeps the E
    // from sticking to a word before it (as PQescapeLiteral does).
    const bool escaped = text.find('\\') != std::string_view::npos;
    std::string quoted = escaped ? " E'" : "'";
    quoted.reserve(quoted.size() + text.size() + 1);
    for (const char c : text) {
        if (c == '\'' || c == '\\') {
            quoted.push_back(c);
        }
        quoted.push_back(c);
    }
    quoted.push_back('\'');
    return quoted;
}

std::vector<std::shared_ptr<const Table>> with_siblings(
    const std::shared_ptr<const Table>& table) {
    std::vector<std::shared_ptr<const Table>> all = {table};
    all.insert(all.end(), table->siblings.begin(), table->siblings.end());
    return all;
}

std::string upsert_sql(const Table& pair) {
    const Table& table = pair.on_mirror();
    const std::vector<std::size_t> columns = image_columns(table);
    std::string placeholders;
    std::string assignments;
    std::string key_assignment;  // for a table of nothing but its key
    for (std::size_t i = 0; i < columns.size(); ++i) {
        const Column& column = table.columns[columns[i]];
        placeholders += (i == 0 ? "$" : ", $") + std::to_string(i + 1);
        // PostgreSQL lets nobody update GENERATED ALWAYS AS IDENTITY but to DEFAULT.
        if (column.identity == Identity::always) {
            continue;
        }
        const std::string name = quote_identifier(column.name);
        const std::string assignment = name + " = EXCLUDED." + name;
        // Assigning a key column takes the stronger row lock, which foreign key checks wait for:
        // only where an equal key may still be another value.
        if (table.is_key(columns[i]) && !equal_values_may_differ(column.type)) {
            if (key_assignment.empty()) {
                key_assignment = assignment;
            }
            continue;
        }
        assignments += (assignments.empty() ? "" : ", ") + assignment;
    }
    if (assignments.empty()) {
        // DO UPDATE rather than DO NOTHING, so that a row is reported as touched.
        assignments = key_assignment;
    }
    // OVERRIDING SYSTEM VALUE is harmless without identity columns, and the mirror may have some
    // where the primary has none.
    std::string update = assignments.empty() ? "DO NOTHING" : "DO UPDATE SET " + assignments;
    std::string alias;
    if (pair.mapped() && pair.mapping->belongs) {
        // A row that the mapping leaves alone is not written over: none is touched then.
        alias = " AS banyan_mirror";
        update += assignments.empty() ? ""
                                      : " WHERE " + over_row(*pair.mapping->belongs, "banyan_mirror");
    }
    return "INSERT INTO " + table.sql_name() + alias + " (" + column_list(table, columns) +
           ") OVERRIDING SYSTEM VALUE VALUES (" + placeholders + ") ON CONFLICT (" +
           column_list(table, table.key) + ") " + update;
}

std::string delete_sql(const Table& pair) {
    const Table& table = pair.on_mirror();
    std::string condition;
    for (std::size_t i = 0; i < table.key.size(); ++i) {
        condition += (i == 0 ? "" : " AND ") + quote_identifier(table.columns[table.key[i]].name) +
                     " = $" + std::to_string(i + 1);
    }
    if (pair.mapped() && pair.mapping->belongs) {
        condition += " AND " + pair.mapping->belongs->sql;
    }
    return "DELETE FROM " + table.only_name() + " WHERE " + condition;
}

std::vector<std::size_t> image_columns(const Table& table) {
    std::vector<std::size_t> columns;
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
        if (!table.columns[i].generated) {
            columns.push_back(i);
        }
    }
    return columns;
}

}  // namespace banyan::router
