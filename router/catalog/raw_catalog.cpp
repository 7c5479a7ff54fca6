#include "router/catalog/raw_catalog.hpp"

#include <algorithm>
#include <array>

namespace banyan::router {
namespace {

// Types created by initdb have fixed OIDs below FirstGenbkiObjectId (access/transam.h): equal in
// every database, so that a binary value which holds one means the same on both sides.
constexpr Oid first_unpinned_oid = 10000;

constexpr std::string_view user_schemas =
    " n.nspname OPERATOR(pg_catalog.!~) '^pg_'"
    " AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'"
    " AND n.nspname OPERATOR(pg_catalog.<>) 'banyan'";

Oid oid_at(const Rows& rows, int row, int column) {
    return static_cast<Oid>(rows.number(row, column));
}

char char_at(const Rows& rows, int row, int column) {
    const auto text = rows.view(row, column);
    return text.empty() ? '\0' : text.front();
}

std::string name_key(const std::string& schema, const std::string& name) {
    return schema + '\0' + name;
}

Result<void> read_relations(Connection& connection, RawCatalog& raw) {
    auto rows = connection.exec(
        "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition, c.relrowsecurity,"
        " EXISTS (SELECT FROM pg_catalog.pg_rewrite w"
        "          WHERE w.ev_class = c.oid AND w.ev_enabled <> 'D') AND c.relkind IN ('r', 'p'),"
        " EXISTS (SELECT FROM pg_catalog.pg_trigger g"
        "          WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'"
        "          AND g.tgname NOT IN ('!banyan_capture', '!banyan_truncate')),"
        " EXISTS (SELECT FROM pg_catalog.pg_trigger g"
        "          WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgdeferrable),"
        " (SELECT pg_catalog.count(*) = 2 FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid"
        "    AND g.tgname IN ('!banyan_capture', '!banyan_truncate') AND g.tgenabled IN ('O', 'A')),"
        " c.relispartition AND"
        " (SELECT pg_catalog.array_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a"
        "   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) IS DISTINCT FROM"
        " (SELECT pg_catalog.array_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a"
        "   WHERE a.attrelid = pg_catalog.pg_partition_root(c.oid) AND a.attnum > 0"
        "   AND NOT a.attisdropped)"
        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND" +
        std::string(user_schemas) + " ORDER BY n.nspname, c.relname");
    BANYAN_TRY(rows);
    raw.relations.reserve(static_cast<std::size_t>(rows->size()));
    for (int row = 0; row < rows->size(); ++row) {
        RawRelation relation;
        relation.oid = oid_at(*rows, row, 0);
        relation.schema = rows->text(row, 1);
        relation.name = rows->text(row, 2);
        relation.kind = char_at(*rows, row, 3);
        relation.is_partition = rows->truth(row, 4);
        relation.row_security = rows->truth(row, 5);
        relation.rules = rows->truth(row, 6);
        relation.user_triggers = rows->truth(row, 7);
        relation.deferrable_triggers = rows->truth(row, 8);
        relation.capture_triggers = rows->truth(row, 9);
        relation.other_order = rows->truth(row, 10);
        raw.by_oid.emplace(relation.oid, raw.relations.size());
        raw.by_name.emplace(name_key(relation.schema, relation.name), raw.relations.size());
        raw.relations.push_back(std::move(relation));
    }
    return {};
}

// What a column gets that an INSERT leaves out, if it is the same for every row and every server:
// no default (nor one of its type), or an expression of constants and PostgreSQL's own immutable
// functions (the casts that a default is wrapped in). The node names of pg_node_tree are those of
// nodes/outfuncs.c.
constexpr std::string_view constant_default =
    " CASE WHEN a.attidentity <> '' THEN NULL"
    " WHEN NOT a.atthasdef THEN CASE WHEN t.typdefault IS NULL THEN 'NULL' END"
    " WHEN NOT EXISTS (SELECT FROM pg_catalog.regexp_matches("
    "                    d.adbin::pg_catalog.text, '{([A-Z_]+)', 'g') AS node(words)"
    "                  WHERE node.words[1] NOT IN ('CONST', 'FUNCEXPR', 'RELABELTYPE', 'COERCETODOMAIN'))"
    "  AND NOT EXISTS (SELECT FROM pg_catalog.regexp_matches("
    "                    d.adbin::pg_catalog.text, ':funcid ([0-9]+)', 'g') AS call(words)"
    "                  LEFT JOIN pg_catalog.pg_proc p ON p.oid = call.words[1]::pg_catalog.oid"
    "                    AND p.oid::pg_catalog.int8 < 10000"
    "                  WHERE p.provolatile IS DISTINCT FROM 'i')"
    " THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END";

Result<void> read_columns(Connection& connection, RawCatalog& raw) {
    auto rows = connection.exec(
        "SELECT a.attrelid, a.attname, a.atttypid,"
        " pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated,"
        " a.attidentity, a.atthasdef, coalesce(l.collisdeterministic, true)," +
        std::string(constant_default) +
        " FROM pg_catalog.pg_attribute a"
        " JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
        " LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
        " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation"
        " WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p')"
        " AND NOT c.relispartition AND" +
        std::string(user_schemas) + " ORDER BY a.attrelid, a.attnum");
    BANYAN_TRY(rows);
    for (int row = 0; row < rows->size(); ++row) {
        const auto relation = raw.by_oid.find(oid_at(*rows, row, 0));
        if (relation == raw.by_oid.end()) {
            continue;
        }
        RawColumn column;
        column.column.name = rows->text(row, 1);
        column.column.type = oid_at(*rows, row, 2);
        column.column.type_name = rows->text(row, 3);
        column.column.not_null = rows->truth(row, 4);
        column.column.generated = char_at(*rows, row, 5) != '\0';
        switch (char_at(*rows, row, 6)) {
            case 'a':
                column.column.identity = Identity::always;
                break;
            case 'd':
                column.column.identity = Identity::by_default;
                break;
            default:
                break;
        }
        column.has_default = rows->truth(row, 7);
        column.deterministic = rows->truth(row, 8);
        if (!rows->null(row, 9)) {
            column.constant = rows->text(row, 9);
        }
        raw.relations[relation->second].columns.push_back(std::move(column));
    }
    return {};
}

// Deferrable indexes are left out because ON CONFLICT cannot use them as arbiters; the columns
// after indnkeyatts are only INCLUDEd.
Result<void> read_keys(Connection& connection, RawCatalog& raw) {
    auto rows = connection.exec(
        "SELECT i.indrelid, i.indexrelid, i.indisprimary, a.attname, a.attnotnull"
        " FROM pg_catalog.pg_index i"
        " JOIN pg_catalog.pg_class c ON c.oid = i.indrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[])"
        "   WITH ORDINALITY AS k(attnum, position)"
        " JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum"
        " WHERE i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL"
        " AND i.indexprs IS NULL AND k.position <= i.indnkeyatts AND NOT c.relispartition AND" +
        std::string(user_schemas) + " ORDER BY i.indrelid, i.indexrelid, k.position");
    BANYAN_TRY(rows);
    Oid index = 0;
    for (int row = 0; row < rows->size(); ++row) {
        const auto relation = raw.by_oid.find(oid_at(*rows, row, 0));
        if (relation == raw.by_oid.end()) {
            continue;
        }
        auto& keys = raw.relations[relation->second].keys;
        if (const Oid next = oid_at(*rows, row, 1); next != index) {
            index = next;
            keys.emplace_back();
            keys.back().primary = rows->truth(row, 2);
        }
        keys.back().columns.push_back(rows->text(row, 3));
        keys.back().not_null = keys.back().not_null && rows->truth(row, 4);
    }
    return {};
}

Result<void> read_owned_sequences(Connection& connection, RawCatalog& raw) {
    // Of a serial column ('a') and of an identity ('i').
    auto rows = connection.exec(
        "SELECT d.refobjid, a.attname, n.nspname, s.relname FROM pg_catalog.pg_depend d"
        " JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'"
        " JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace"
        " JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"
        " WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
        " AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
        " AND d.deptype IN ('a', 'i') ORDER BY 3, 4");
    BANYAN_TRY(rows);
    for (int row = 0; row < rows->size(); ++row) {
        const auto relation = raw.by_oid.find(oid_at(*rows, row, 0));
        if (relation == raw.by_oid.end()) {
            continue;
        }
        for (RawColumn& column : raw.relations[relation->second].columns) {
            if (column.column.name == rows->view(row, 1)) {
                column.sequence = rows->text(row, 2) + "." + rows->text(row, 3);
            }
        }
    }
    return {};
}

Result<void> read_types(Connection& connection, RawCatalog& raw) {
    // A variable-length type with an element type is an array (point and the like have elements
    // too, but a fixed length).
    auto rows = connection.exec(
        "SELECT t.oid, t.typtype, CASE WHEN t.typlen = -1 THEN t.typelem ELSE 0 END,"
        " t.typbasetype, coalesce(r.rngsubtype, 0), n.nspname, t.typname"
        " FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace"
        " LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid");
    BANYAN_TRY(rows);
    raw.types.reserve(static_cast<std::size_t>(rows->size()));
    for (int row = 0; row < rows->size(); ++row) {
        RawType type;
        type.kind = char_at(*rows, row, 1);
        type.element = oid_at(*rows, row, 2);
        type.base = oid_at(*rows, row, 3);
        type.subtype = oid_at(*rows, row, 4);
        type.schema = rows->text(row, 5);
        type.name = rows->text(row, 6);
        raw.types.emplace(oid_at(*rows, row, 0), std::move(type));
    }
    return {};
}

Result<void> read_inheritance(Connection& connection, RawCatalog& raw) {
    auto rows = connection.exec(
        "SELECT i.inhrelid, i.inhparent, c.relispartition FROM pg_catalog.pg_inherits i"
        " JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE c.relkind IN ('r', 'p', 'f')");
    BANYAN_TRY(rows);
    for (int row = 0; row < rows->size(); ++row) {
        const Oid child = oid_at(*rows, row, 0);
        const Oid parent = oid_at(*rows, row, 1);
        if (rows->truth(row, 2)) {
            raw.partition_parent.emplace(child, parent);
        } else {
            raw.inherits.insert(child);
            raw.inherits.insert(parent);
        }
    }
    return {};
}

ReferentialAction action_of(char code) {
    switch (code) {
        case 'c':
            return ReferentialAction::cascade;
        case 'n':
            return ReferentialAction::set_null;
        case 'd':
            return ReferentialAction::set_default;
        default:
            return ReferentialAction::none;
    }
}

}  // namespace

Oid RawCatalog::root_of(Oid oid) const {
    for (auto parent = partition_parent.find(oid); parent != partition_parent.end();
         parent = partition_parent.find(oid)) {
        oid = parent->second;
    }
    return oid;
}

const RawRelation* RawCatalog::find(const std::string& schema, const std::string& name) const {
    const auto found = by_name.find(name_key(schema, name));
    return found == by_name.end() ? nullptr : &relations[found->second];
}

// Text whose form depends on DateStyle, IntervalStyle, TimeZone, extra_float_digits, bytea_output
// or lc_monetary, or on what cannot be known.
bool RawCatalog::settings_change_text(Oid oid) const {
    static constexpr std::array<std::string_view, 14> steady = {
        "bool", "int2", "int4", "int8", "numeric", "text",  "varchar",
        "bpchar", "uuid", "json", "jsonb",   "inet", "name", "char"};
    const auto found = types.find(oid);
    if (found == types.end()) {
        return true;
    }
    const RawType& type = found->second;
    if (type.kind == 'd') {
        return settings_change_text(type.base);
    }
    if (type.element != 0) {
        return settings_change_text(type.element);
    }
    if (type.kind == 'r') {
        return settings_change_text(type.subtype);
    }
    if (type.kind == 'e' || (type.kind == 'b' && oid >= first_unpinned_oid)) {
        return false;
    }
    return std::find(steady.begin(), steady.end(), type.name) == steady.end();
}

TypeForm RawCatalog::form(Oid oid) const {
    const auto found = types.find(oid);
    if (found == types.end()) {
        return {.fragile = true};
    }
    const RawType& type = found->second;
    const bool built_in = oid < first_unpinned_oid;
    if (type.kind == 'd') {
        return form(type.base);  // a domain's send function is its base type's
    }
    if (type.kind == 'e') {
        return {.portable = true, .key = true};  // the binary form is the label
    }
    if (type.element != 0) {
        // array_send writes the element type's OID.
        const TypeForm element = form(type.element);
        const bool binary = built_in && element.binary;
        return {.binary = binary,
                .fragile = element.fragile || (!binary && settings_change_text(type.element)),
                .portable = binary,
                .key = binary};
    }
    if (type.kind == 'r') {
        // range_send writes the bounds only, without OIDs: as good as its subtype.
        const TypeForm bounds = form(type.subtype);
        return {.binary = bounds.binary,
                .fragile = bounds.fragile,
                .portable = bounds.binary,
                .key = bounds.key && built_in};
    }
    if (type.kind == 'm') {
        return {.binary = built_in,
                .fragile = !built_in,
                .portable = built_in,
                .key = built_in};
    }
    if (type.kind == 'b') {
        // regclass and its kin are OIDs in binary, and names that depend on search_path in text.
        const bool reg = built_in && type.name.starts_with("reg");
        return {.binary = built_in && !reg,
                .fragile = reg,
                .portable = built_in && !reg,
                .key = built_in && !reg};
    }
    return {.fragile = true};  // composites and pseudo-types
}

const RawColumn* find_column(const RawRelation& relation, const std::string& name) {
    for (const RawColumn& column : relation.columns) {
        if (column.column.name == name) {
            return &column;
        }
    }
    return nullptr;
}

bool optional_column(const RawColumn& column) {
    return !column.column.not_null || column.has_default || column.column.generated ||
           column.column.identity != Identity::none;
}

bool usable_in_key(const RawCatalog& catalog, const RawRelation& relation,
                   const std::string& name) {
    const RawColumn* column = find_column(relation, name);
    return column != nullptr && column->deterministic && catalog.form(column->column.type).key;
}

Result<RawCatalog> read_raw_catalog(Connection& connection) {
    RawCatalog raw;
    BANYAN_TRY(read_relations(connection, raw));
    BANYAN_TRY(read_columns(connection, raw));
    BANYAN_TRY(read_keys(connection, raw));
    BANYAN_TRY(read_owned_sequences(connection, raw));
    BANYAN_TRY(read_types(connection, raw));
    BANYAN_TRY(read_inheritance(connection, raw));
    return raw;
}

Result<std::vector<RawCascade>> read_cascades(Connection& connection) {
    // conparentid leaves out the copies that partitions hold of their parent's constraint.
    auto rows = connection.exec(
        "SELECT f.oid, f.confrelid, f.conrelid, f.confdeltype, f.confupdtype, c.attname, p.attname"
        " FROM pg_catalog.pg_constraint f"
        " CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(f.conkey), pg_catalog.unnest(f.confkey))"
        "   WITH ORDINALITY AS k(child, parent, position)"
        " JOIN pg_catalog.pg_attribute c ON c.attrelid = f.conrelid AND c.attnum = k.child"
        " JOIN pg_catalog.pg_attribute p ON p.attrelid = f.confrelid AND p.attnum = k.parent"
        " WHERE f.contype = 'f' AND f.conparentid = 0"
        " AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd'))"
        " ORDER BY f.oid, k.position");
    BANYAN_TRY(rows);
    std::vector<RawCascade> cascades;
    Oid constraint = 0;
    for (int row = 0; row < rows->size(); ++row) {
        if (const Oid next = oid_at(*rows, row, 0); next != constraint) {
            constraint = next;
            RawCascade& added = cascades.emplace_back();
            added.parent = oid_at(*rows, row, 1);
            added.cascade.child = oid_at(*rows, row, 2);
            added.cascade.on_delete = action_of(char_at(*rows, row, 3));
            added.cascade.on_update = action_of(char_at(*rows, row, 4));
        }
        cascades.back().cascade.child_columns.push_back(rows->text(row, 5));
        cascades.back().cascade.parent_columns.push_back(rows->text(row, 6));
    }
    return cascades;
}

Result<std::vector<std::string>> read_volatile_functions(Connection& connection) {
    auto rows = connection.exec(
        "SELECT DISTINCT pg_catalog.lower(p.proname) FROM pg_catalog.pg_proc p"
        " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
        " WHERE p.provolatile = 'v' AND n.nspname NOT IN ('pg_catalog', 'information_schema')");
    BANYAN_TRY(rows);
    std::vector<std::string> names;
    for (int row = 0; row < rows->size(); ++row) {
        names.push_back(rows->text(row, 0));
    }
    return names;
}

Result<bool> read_committing_procedures(Connection& connection) {
    auto rows = connection.exec(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p"
        " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
        " JOIN pg_catalog.pg_language l ON l.oid = p.prolang"
        " WHERE p.prokind = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        " AND (l.lanname IN ('c', 'internal') OR p.prosrc ~* '(commit|rollback)'))");
    BANYAN_TRY(rows);
    return rows->truth(0, 0);
}

Result<std::vector<std::pair<std::string, Oid>>> read_select_privileges(
    Connection& connection, const std::vector<std::string>& roles) {
    std::string chosen = " r.rolcanlogin";
    if (!roles.empty()) {
        chosen = " r.rolname IN (";
        for (const std::string& role : roles) {
            chosen += (&role == &roles.front() ? "" : ", ") + quote_literal(role);
        }
        chosen += ")";
    }
    auto rows = connection.exec(
        "SELECT r.rolname, c.oid FROM pg_catalog.pg_roles r"
        " CROSS JOIN pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND" +
        std::string(user_schemas) + " AND" + chosen +
        " AND pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT')");
    BANYAN_TRY(rows);
    std::vector<std::pair<std::string, Oid>> granted;
    granted.reserve(static_cast<std::size_t>(rows->size()));
    for (int row = 0; row < rows->size(); ++row) {
        granted.emplace_back(rows->text(row, 0), oid_at(*rows, row, 1));
    }
    return granted;
}

}  // namespace banyan::router
