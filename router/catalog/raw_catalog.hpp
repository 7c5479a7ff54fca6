// The rows of one database's system catalogues that Banyan needs, read with a handful of queries
// in one snapshot, not yet compared with the other side. Used by catalog_loader.cpp only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "router/catalog/catalog.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

/// pg_type, as far as it decides how a value may travel.
struct RawType {
    char kind = 'b';     ///< typtype
    Oid element = 0;     ///< of an array, otherwise 0
    Oid base = 0;        ///< of a domain
    Oid subtype = 0;     ///< of a range
    std::string schema;
    std::string name;
};

/// How a column's values may travel between the databases.
struct TypeForm {
    bool binary = false;
    bool fragile = false;
    bool portable = false;  ///< see Column
    bool key = false;  ///< usable in a RowKey: its binary form means the same on both sides
};

struct RawColumn {
    Column column;
    bool has_default = false;
    bool deterministic = true;  ///< of its collation
    /// What a row gets that leaves it out, as SQL, if that is NULL or a constant.
    std::optional<std::string> constant;
    std::string sequence;       ///< that it owns, "schema.name"; empty: none
};

/// A unique index that ON CONFLICT can infer.
struct RawKey {
    bool primary = false;
    bool not_null = true;              ///< all its columns are NOT NULL
    std::vector<std::string> columns;  ///< in index order
};

struct RawCascade {
    Oid parent = 0;
    Cascade cascade;
};

struct RawRelation {
    Oid oid = 0;
    std::string schema;
    std::string name;
    char kind = 0;
    bool is_partition = false;
    bool row_security = false;
    bool rules = false;
    bool user_triggers = false;        ///< Banyan's own left out
    bool deferrable_triggers = false;  ///< of users, constraint triggers
    bool capture_triggers = false;     ///< deep capture's two
    /// Of a partition: its columns come in another order than its root's.
    bool other_order = false;
    std::vector<RawColumn> columns;  ///< of tables that are no partitions
    std::vector<RawKey> keys;        ///< likewise
};

struct RawCatalog {
    std::vector<RawRelation> relations;
    std::unordered_map<Oid, std::size_t> by_oid;          ///< into relations
    std::unordered_map<std::string, std::size_t> by_name; ///< schema '\0' name -> into relations
    std::unordered_map<Oid, RawType> types;
    std::unordered_map<Oid, Oid> partition_parent;  ///< partition -> its direct parent
    std::unordered_set<Oid> inherits;               ///< parents and children of plain inheritance

    Oid root_of(Oid oid) const;
    const RawRelation* find(const std::string& schema, const std::string& name) const;
    TypeForm form(Oid type) const;

   private:
    bool settings_change_text(Oid type) const;
};

/// Null: the relation has no such column.
const RawColumn* find_column(const RawRelation& relation, const std::string& name);
/// A column that an INSERT may leave out.
bool optional_column(const RawColumn& column);
/// The column's binary form means the same on both sides, and equal values are one value.
bool usable_in_key(const RawCatalog& catalog, const RawRelation& relation, const std::string& name);

/// The columns, keys and types: what is compared between the sides.
Result<RawCatalog> read_raw_catalog(Connection& connection);
/// Cascading foreign keys, one entry each.
Result<std::vector<RawCascade>> read_cascades(Connection& connection);
/// Lower-case names of volatile functions outside the system schemas.
Result<std::vector<std::string>> read_volatile_functions(Connection& connection);
/// True if a procedure outside the system schemas may end transactions, as far as its text tells
/// (one without text may).
Result<bool> read_committing_procedures(Connection& connection);
/// (role, table) pairs for which the role may SELECT the whole table. `roles` empty: all that can
/// log in.
Result<std::vector<std::pair<std::string, Oid>>> read_select_privileges(
    Connection& connection, const std::vector<std::string>& roles);

}  // namespace banyan::router
