// What Banyan knows of a database's schema: which tables are mirrored, by which key, and what
// stands in the way of capturing a write exactly. Immutable once built; shared between threads by
// shared_ptr<const Catalog>. Built by load_catalog() (catalog_loader.hpp); tests build it by hand.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "router/catalog/mapping_rule.hpp"
#include "router/model/types.hpp"

namespace banyan::router {

using Oid = std::uint32_t;

enum class Identity : std::uint8_t { none, by_default, always };

struct Column {
    std::string name;
    Oid type = 0;           ///< type OID on the database this catalog was read from
    std::string type_name;  ///< format_type(), e.g. "timestamp with time zone"
    bool not_null = false;
    bool generated = false;  ///< GENERATED ALWAYS AS (...) STORED: never written by Banyan
    Identity identity = Identity::none;
    /// Row images carry this column in binary. True for built-in types whose binary form holds no
    /// OIDs; false for enums, composites and the like, which travel as text.
    bool binary = false;
    /// The text form depends on session settings and the binary form on OIDs (composites, arrays
    /// of user types): a row image cannot carry it; the row's key is made dirty instead.
    bool fragile = false;
    /// Its binary form means the same on both sides: `binary`, or an enum (its label).
    bool portable = false;
    /// A COPY may leave it out and both sides fill in the same: NULL, or the same constant.
    bool omittable = false;
};

enum class ReferentialAction : std::uint8_t { none, cascade, set_null, set_default };

/// A foreign key that points at this table and changes rows elsewhere when this table changes.
struct Cascade {
    Oid child = 0;                            ///< table holding the foreign key
    std::vector<std::string> child_columns;   ///< unquoted, parallel to parent_columns
    std::vector<std::string> parent_columns;  ///< unquoted, of this table
    ReferentialAction on_delete = ReferentialAction::none;
    ReferentialAction on_update = ReferentialAction::none;
};

struct Mapping;

/// A table of the primary together with its table on the mirror: what is captured, copied, repaired
/// and verified as one. A table split over several has one Table for each.
struct Table {
    TableId id = 0;
    Oid oid = 0;
    std::string schema;
    std::string name;
    std::vector<Column> columns;   ///< in attribute order, without dropped ones
    std::vector<std::size_t> key;  ///< indexes into columns; empty: no usable key
    std::vector<Cascade> cascades;
    bool user_triggers = false;  ///< any enabled, non-internal trigger
    bool row_security = false;
    bool partitioned = false;
    bool same_columns = false;  ///< the mirror has these columns and none of its own
    /// Why rows cannot be mirrored one by one ("no_key", "fragile_key", "not_on_mirror", ...); empty
    /// if they can.
    std::string not_captured_because;
    /// Why RETURNING does not tell what a statement does to the table ("rules", "inheritance"):
    /// its writes are opaque, though its rows are mirrored like others.
    std::string opaque_because;
    /// Deep capture's triggers are on it, and its rows can be read from their records.
    bool deep = false;
    /// How its rows are written on the mirror; null: under the same names.
    std::shared_ptr<const Mapping> mapping;
    /// The other Tables of the same table of the primary, where it is split.
    std::vector<std::shared_ptr<const Table>> siblings;

    bool mapped() const { return mapping != nullptr; }
    /// The table on the mirror: its names, with the columns of a row image. Unmapped: this.
    const Table& on_mirror() const;
    /// "schema.name"; if mapped, the name of its rule.
    std::string display_name() const;
    /// schema and name quoted as SQL identifiers.
    std::string sql_name() const;
    /// The same behind ONLY, unless partitioned: without the rows of tables that inherit from it.
    std::string only_name() const;
    bool captured() const { return not_captured_because.empty(); }
    bool is_key(std::size_t column) const;
};

/// How a table's rows become those of a table of another name, with other columns, or only some of
/// them. Expressions are over the primary's row. SQL made of it: router/catalog/mapping.hpp.
struct Mapping {
    std::string name;  ///< MappingRule::name(), or "a, b" where a row comes from two tables
    /// Its columns are those of a row image, in order; `key` is parallel to the primary's.
    std::shared_ptr<const Table> mirror;
    std::vector<RowExpression> values;     ///< parallel to mirror->columns
    std::optional<RowExpression> passes;   ///< the primary's rows that belong to the mirror
    /// Over the mirror's row: those that belong to the mapping. Others are never deleted.
    std::optional<RowExpression> belongs;
    /// The rows as they should be on the mirror come from several tables of the primary, joined by
    /// this SELECT, whose columns are the mirror's. One row of one table does not tell the image:
    /// its key is made dirty, and repair reads all of them.
    std::string combined;
    /// Both ways the same: nothing but other names.
    bool plain = true;
    /// Why the mapping cannot be turned round, and what to write; empty: it can.
    std::string no_reverse;
    /// Counts the primary's rows that reverse(forward(row)) would change, and gives one's key;
    /// empty where there are none for sure.
    std::string reverse_check;

    /// Its rows reach the mirror by repair alone.
    bool by_repair() const { return !combined.empty(); }
};

/// A relation as a statement names it. `schema` is empty if the statement did not say.
struct RangeName {
    std::string schema;
    std::string name;
    std::string alias;

    friend bool operator==(const RangeName&, const RangeName&) = default;
};

class Catalog {
   public:
    std::uint64_t version = 0;
    Side side = Side::source;
    /// Some table has a deferrable trigger of a user's: it may fire as late as at COMMIT.
    bool deferrable_triggers = false;
    std::vector<std::string> excluded;  ///< "schema.table" names left out by configuration
    /// Some procedure may COMMIT or ROLLBACK in its body.
    bool committing_procedures = false;
    /// What is wrong with [[mapping]] entries: rule, column, and what to do.
    std::vector<std::string> mapping_problems;
    /// Sequences of mapped columns: "schema.name" on this side -> on the mirror.
    std::map<std::string, std::string> sequence_twins;

    /// Adds a table (a mirrored one, or one kept only for its reason).
    void add_table(std::shared_ptr<const Table> table);
    /// A leaf partition: writes to it are captured as writes to `root`.
    void add_partition(std::string schema, std::string name, Oid leaf, Oid root);
    /// Any other relation kind ('v' view, 'f' foreign table, 'm' materialised view, 'S' sequence).
    void add_other_relation(std::string schema, std::string name, char relkind);
    /// A function that may write or whose value changes between calls; unqualified, lower case.
    void add_volatile_function(std::string name);
    /// `role` may SELECT every column of table `oid` and LOCK its rows.
    void grant_select(const std::string& role, Oid oid);

    struct Found {
        std::shared_ptr<const Table> table;  ///< null: not a table Banyan knows
        char relkind = 0;                    ///< 'r', 'p', 'v', ...; 0: no such relation
        bool leaf = false;                   ///< named directly as a leaf partition
    };
    /// Resolves a name as PostgreSQL would with this search_path (schemas that exist, in order,
    /// pg_catalog implied first).
    Found find(const RangeName& name, const std::vector<std::string>& search_path) const;
    /// Of several (a split table) the first, as in Found; the others are its siblings.
    std::shared_ptr<const Table> table_by_oid(Oid oid) const;
    std::shared_ptr<const Table> table_by_id(TableId id) const;
    const std::vector<std::shared_ptr<const Table>>& tables() const { return tables_; }
    bool is_volatile(std::string_view function) const;
    /// Deep capture is in use: at least one table has it.
    bool deep() const { return deep_; }
    bool may_select(const std::string& role, Oid oid) const;
    /// The root's OID for a leaf partition, otherwise `oid` itself.
    Oid root_of(Oid oid) const;

   private:
    struct Entry {
        std::shared_ptr<const Table> table;
        char relkind = 0;
        Oid leaf_oid = 0;  // not 0: a leaf partition, whose table is its root's
    };
    std::vector<std::shared_ptr<const Table>> tables_;
    std::unordered_map<std::string, Entry> by_name_;  // schema '\0' name
    std::unordered_map<Oid, std::shared_ptr<const Table>> by_oid_;
    std::unordered_map<TableId, std::shared_ptr<const Table>> by_id_;
    std::unordered_map<Oid, Oid> root_of_leaf_;
    bool deep_ = false;
    std::unordered_set<std::string> volatile_functions_;
    std::unordered_map<std::string, std::unordered_set<Oid>> selectable_;
};

/// Quotes one SQL identifier: always in double quotes, inner ones doubled.
std::string quote_identifier(std::string_view name);
/// Quotes a string as an SQL literal that is right whatever standard_conforming_strings says.
std::string quote_literal(std::string_view text);

/// SQL that writes one full row image of `table` on the mirror: INSERT ... ON CONFLICT (key) DO
/// UPDATE with every non-generated column of on_mirror() as $1..$n in column order (see
/// image_columns()).
std::string upsert_sql(const Table& table);
/// SQL that deletes one row on the mirror by key: $1..$k in key order.
std::string delete_sql(const Table& table);
/// Indexes of the columns of a row image: all but generated ones, in column order. For a mapped table
/// ask it of on_mirror().
std::vector<std::size_t> image_columns(const Table& table);
/// The type of the leading key column as KeyRanges::none() wants it; 0 if the table's keys are not
/// told apart by it alike on both sides.
std::uint32_t leading_key_type(const Table& table);
/// The table and its siblings.
std::vector<std::shared_ptr<const Table>> with_siblings(const std::shared_ptr<const Table>& table);

}  // namespace banyan::router
