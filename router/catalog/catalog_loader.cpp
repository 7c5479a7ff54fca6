#include "router/catalog/catalog_loader.hpp"

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "router/catalog/mapped_tables.hpp"
#include "router/catalog/raw_catalog.hpp"

namespace banyan::router {
namespace {

// All queries on one side see one snapshot, so that a table's columns and keys belong together.
constexpr const char* begin_snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

template <class Read>
auto in_snapshot(Connection& connection, const Read& read) -> decltype(read()) {
    BANYAN_TRY(connection.exec(begin_snapshot));
    auto result = read();
    connection.rollback();
    return result;
}

// The two sides' views of one table, whichever of them is primary.
struct Sides {
    const RawRelation& primary;
    const RawRelation& mirror;
    const RawCatalog& primary_catalog;
    const RawCatalog& mirror_catalog;
    bool source_is_primary = true;

    const RawRelation& source() const { return source_is_primary ? primary : mirror; }
    const RawRelation& target() const { return source_is_primary ? mirror : primary; }
};

// The target may have columns that the source lacks, if a row can do without them. They are no
// part of a row image in either direction.
bool columns_match(const Sides& sides) {
    for (const RawColumn& column : sides.source().columns) {
        const RawColumn* twin = find_column(sides.target(), column.column.name);
        if (twin == nullptr) {
            if (column.column.generated) {
                continue;
            }
            return false;
        }
        if (twin->column.generated != column.column.generated ||
            twin->column.type_name != column.column.type_name) {
            return false;
        }
    }
    return std::all_of(sides.target().columns.begin(), sides.target().columns.end(),
                       [&](const RawColumn& column) {
                           return find_column(sides.source(), column.column.name) != nullptr ||
                                  optional_column(column);
                       });
}

// A COPY's data fits both sides only if neither has a column of its own.
bool same_columns(const Sides& sides) {
    const auto known = [](const RawRelation& one, const RawRelation& other) {
        return std::all_of(one.columns.begin(), one.columns.end(), [&](const RawColumn& column) {
            return column.column.generated || find_column(other, column.column.name) != nullptr;
        });
    };
    return known(sides.primary, sides.mirror) && known(sides.mirror, sides.primary);
}

struct KeyChoice {
    std::vector<std::string> columns;
    std::string reason;  ///< if there is no usable key
};

// One key for both directions: dirty keys and journal entries outlive a flip, so the choice must
// not depend on which side is primary. It is the source's order of columns, and the source's
// primary key if it can be.
KeyChoice choose_key(const Sides& sides) {
    using Rank = std::tuple<bool, bool, std::size_t, std::vector<std::string>>;
    std::optional<Rank> best;
    bool any = false;
    bool any_exact = false;
    for (const RawKey& key : sides.source().keys) {
        if (!key.not_null) {
            continue;
        }
        any = true;
        const bool exact =
            std::all_of(key.columns.begin(), key.columns.end(), [&](const std::string& name) {
                return usable_in_key(sides.primary_catalog, sides.primary, name) &&
                       usable_in_key(sides.mirror_catalog, sides.mirror, name);
            });
        if (!exact) {
            continue;
        }
        any_exact = true;
        const std::set<std::string> wanted(key.columns.begin(), key.columns.end());
        const auto& target_keys = sides.target().keys;
        const auto twin = std::find_if(
            target_keys.begin(), target_keys.end(), [&](const RawKey& candidate) {
                return candidate.not_null &&
                       std::set<std::string>(candidate.columns.begin(), candidate.columns.end()) ==
                           wanted;
            });
        if (twin == target_keys.end()) {
            continue;
        }
        Rank rank{!key.primary, !twin->primary, key.columns.size(), key.columns};
        if (!best || rank < *best) {
            best = std::move(rank);
        }
    }
    if (best) {
        return {std::get<3>(*best), ""};
    }
    return {{}, !any ? "no_key" : !any_exact ? "fragile_key" : "key_differs"};
}

// What the leaves of a partitioned table add to what is known of its root.
struct LeafTraits {
    bool rules = false;
    bool user_triggers = false;
    bool row_security = false;
    bool foreign = false;
    bool other_order = false;
};

std::string opaque_reason(const RawRelation& relation, const RawCatalog& raw,
                          const LeafTraits& leaves) {
    if (relation.rules || leaves.rules) {
        return "rules";
    }
    if (raw.inherits.contains(relation.oid)) {
        return "inheritance";
    }
    return "";
}

// The key to describe a table that has no usable twin on the mirror: none, but the first reason
// an operator must deal with is its own lack of a key.
bool has_own_key(const RawRelation& relation) {
    return std::any_of(relation.keys.begin(), relation.keys.end(),
                       [](const RawKey& key) { return key.not_null; });
}

class Assembler {
   public:
    Assembler(const RawCatalog& primary, const RawCatalog& mirror, Side primary_side, StateDb& db,
              const CatalogOptions& options, const MappedTables& mapped)
        : primary_(primary), mirror_(mirror), primary_side_(primary_side), db_(db),
          mapped_(mapped), excluded_(options.exclude.begin(), options.exclude.end()),
          deep_capture_(options.deep_capture) {}

    void add_cascades(const std::vector<RawCascade>& cascades) {
        for (const RawCascade& raw : cascades) {
            Cascade cascade = raw.cascade;
            cascade.child = primary_.root_of(cascade.child);
            cascades_[primary_.root_of(raw.parent)].push_back(std::move(cascade));
        }
    }

    void fill(Catalog& catalog) {
        for (const RawRelation& relation : primary_.relations) {
            if (relation.is_partition) {
                LeafTraits& leaves = leaves_[primary_.root_of(relation.oid)];
                leaves.rules = leaves.rules || relation.rules;
                leaves.user_triggers = leaves.user_triggers || relation.user_triggers;
                leaves.row_security = leaves.row_security || relation.row_security;
                leaves.foreign = leaves.foreign || relation.kind == 'f';
                leaves.other_order = leaves.other_order || relation.other_order;
            }
        }
        for (const RawRelation& relation : primary_.relations) {
            catalog.deferrable_triggers =
                catalog.deferrable_triggers || relation.deferrable_triggers;
            const bool table = relation.kind == 'r' || relation.kind == 'p';
            if (excluded(relation)) {
                catalog.excluded.push_back(relation.schema + "." + relation.name);
                catalog.add_other_relation(relation.schema, relation.name, 'x');
            } else if (table && !relation.is_partition &&
                       mapped_.names(primary_side_, relation)) {
                add_mapped(catalog, relation);
            } else if (table && !relation.is_partition) {
                catalog.add_table(assemble(relation));
            } else if (!relation.is_partition) {
                catalog.add_other_relation(relation.schema, relation.name, relation.kind);
            }
        }
        // Partitions come after every root is known.
        for (const RawRelation& relation : primary_.relations) {
            if (relation.is_partition && !excluded(relation)) {
                catalog.add_partition(relation.schema, relation.name, relation.oid,
                                      primary_.root_of(relation.oid));
            }
        }
    }

   private:
    bool excluded(const RawRelation& relation) const {
        if (excluded_.contains(relation.schema + "." + relation.name)) {
            return true;
        }
        if (!relation.is_partition) {
            return false;
        }
        const auto root = primary_.by_oid.find(primary_.root_of(relation.oid));
        return root != primary_.by_oid.end() &&
               excluded_.contains(primary_.relations[root->second].schema + "." +
                                  primary_.relations[root->second].name);
    }

    void add_traits(Table& table, const RawRelation& relation) {
        const LeafTraits leaves = leaves_[relation.oid];
        table.cascades = cascades_[relation.oid];
        table.user_triggers = relation.user_triggers || leaves.user_triggers;
        table.row_security = relation.row_security || leaves.row_security;
        table.partitioned = relation.kind == 'p';
    }

    void add_mapped(Catalog& catalog, const RawRelation& relation) {
        const LeafTraits leaves = leaves_[relation.oid];
        const auto tables = mapped_.tables(primary_side_, relation);
        for (const auto& table : tables) {
            add_traits(*table, relation);
            table->opaque_because = opaque_reason(relation, primary_, leaves);
            if (table->not_captured_because.empty() && leaves.foreign) {
                table->not_captured_because = "foreign_table";
            }
        }
        // A statement finds the first; only that one knows of the others, or they would hold each other.
        tables.front()->siblings.assign(tables.begin() + 1, tables.end());
        for (const auto& table : tables) {
            catalog.add_table(table);
        }
    }

    std::shared_ptr<const Table> assemble(const RawRelation& relation) {
        auto table = std::make_shared<Table>();
        const LeafTraits leaves = leaves_[relation.oid];
        table->id = db_.table_id(relation.schema, relation.name);
        table->oid = relation.oid;
        table->schema = relation.schema;
        table->name = relation.name;
        add_traits(*table, relation);

        const RawRelation* twin = mirror_.find(relation.schema, relation.name);
        if (twin != nullptr && (twin->is_partition || (twin->kind != 'r' && twin->kind != 'p') ||
                                mapped_.names(other(primary_side_), *twin))) {
            twin = nullptr;
        }
        table->opaque_because = opaque_reason(relation, primary_, leaves);
        const std::string reason = leaves.foreign ? "foreign_table" : "";
        if (twin == nullptr) {
            add_columns(*table, relation, nullptr);
            table->not_captured_because = !reason.empty()          ? reason
                                          : !has_own_key(relation) ? "no_key"
                                                                   : "not_on_mirror";
            return table;
        }
        const Sides sides{relation, *twin, primary_, mirror_, primary_side_ == Side::source};
        add_columns(*table, relation, primary_side_ == Side::target ? twin : nullptr);
        if (!columns_match(sides)) {
            table->not_captured_because = reason.empty() ? "columns_differ" : reason;
            return table;
        }
        table->same_columns = same_columns(sides);
        for (Column& column : table->columns) {
            const RawColumn* here = find_column(relation, column.name);
            const RawColumn* there = find_column(*twin, column.name);
            column.omittable = here != nullptr && there != nullptr && here->constant &&
                               here->constant == there->constant;
        }
        const KeyChoice choice = choose_key(sides);
        for (const std::string& name : choice.columns) {
            for (std::size_t i = 0; i < table->columns.size(); ++i) {
                if (table->columns[i].name == name) {
                    table->key.push_back(i);
                }
            }
        }
        table->not_captured_because = reason.empty() ? choice.reason : reason;
        table->deep = deep_capture_ && relation.capture_triggers && !leaves.other_order &&
                      table->captured() && table->columns.size() == relation.columns.size();
        return table;
    }

    /// `source`, if given: only columns that it has are taken.
    void add_columns(Table& table, const RawRelation& relation, const RawRelation* source) const {
        for (const RawColumn& raw : relation.columns) {
            if (source != nullptr && find_column(*source, raw.column.name) == nullptr) {
                continue;
            }
            Column column = raw.column;
            const TypeForm form = primary_.form(column.type);
            column.binary = form.binary;
            column.fragile = form.fragile;
            column.portable = form.portable;
            table.columns.push_back(std::move(column));
        }
    }

    const RawCatalog& primary_;
    const RawCatalog& mirror_;
    Side primary_side_;
    StateDb& db_;
    const MappedTables& mapped_;
    std::unordered_set<std::string> excluded_;
    bool deep_capture_;
    std::unordered_map<Oid, LeafTraits> leaves_;
    std::unordered_map<Oid, std::vector<Cascade>> cascades_;
};

struct PrimaryRead {
    RawCatalog raw;
    std::vector<RawCascade> cascades;
    std::vector<std::string> volatile_functions;
    bool committing_procedures = false;
    std::vector<std::pair<std::string, Oid>> select_privileges;
};

Result<PrimaryRead> read_primary(Connection& connection, const CatalogOptions& options) {
    return in_snapshot(connection, [&]() -> Result<PrimaryRead> {
        auto raw = read_raw_catalog(connection);
        if (!raw) {
            return std::move(raw).error();
        }
        auto cascades = read_cascades(connection);
        if (!cascades) {
            return std::move(cascades).error();
        }
        auto functions = read_volatile_functions(connection);
        if (!functions) {
            return std::move(functions).error();
        }
        auto privileges = read_select_privileges(connection, options.roles);
        if (!privileges) {
            return std::move(privileges).error();
        }
        auto committing = read_committing_procedures(connection);
        if (!committing) {
            return std::move(committing).error();
        }
        return PrimaryRead{std::move(*raw), std::move(*cascades), std::move(*functions),
                           *committing, std::move(*privileges)};
    });
}

}  // namespace

Result<std::shared_ptr<const Catalog>> load_catalog(Connection& primary, Connection& mirror,
                                                    Side primary_side, StateDb& db,
                                                    const CatalogOptions& options,
                                                    std::uint64_t version) {
    auto read = read_primary(primary, options);
    if (!read) {
        return Error{"reading the catalogue of the primary: " + read.error().message,
                     read.error().sqlstate};
    }
    auto mirrored = in_snapshot(mirror, [&] { return read_raw_catalog(mirror); });
    if (!mirrored) {
        return Error{"reading the catalogue of the mirror: " + mirrored.error().message,
                     mirrored.error().sqlstate};
    }
    auto catalog = std::make_shared<Catalog>();
    catalog->version = version;
    catalog->side = primary_side;
    const bool source_first = primary_side == Side::source;
    MappedTables mapped(options.mappings, source_first ? read->raw : *mirrored,
                        source_first ? *mirrored : read->raw, db);
    if (auto checked = mapped.check(source_first ? primary : mirror, source_first ? mirror : primary);
        !checked) {
        return Error{"trying the expressions of [[mapping]]: " + checked.error().message,
                     checked.error().sqlstate};
    }
    catalog->mapping_problems = mapped.problems();
    for (const auto& [source, target] : mapped.sequences()) {
        catalog->sequence_twins.try_emplace(source_first ? source : target,
                                            source_first ? target : source);
    }
    Assembler assembler(read->raw, *mirrored, primary_side, db, options, mapped);
    assembler.add_cascades(read->cascades);
    assembler.fill(*catalog);
    catalog->committing_procedures = read->committing_procedures;
    for (const std::string& name : read->volatile_functions) {
        catalog->add_volatile_function(name);
    }
    for (const auto& [role, oid] : read->select_privileges) {
        catalog->grant_select(role, oid);
    }
    return std::shared_ptr<const Catalog>(std::move(catalog));
}

}  // namespace banyan::router
