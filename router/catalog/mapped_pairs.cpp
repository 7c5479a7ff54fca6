// The Tables that sound rules make, in either direction.

#include <algorithm>

#include "router/catalog/mapped_tables.hpp"
#include "router/catalog/mapping.hpp"

namespace banyan::router {

bool MappedTables::names(Side side, const RawRelation& relation) const {
    return std::any_of(resolved_.begin(), resolved_.end(), [&](const Resolved& it) {
        return (side == Side::source ? it.source : it.target) == &relation;
    });
}

std::shared_ptr<const Table> MappedTables::mirror_of(
    const Resolved& it, Side primary, const std::vector<MappedColumn>& columns) const {
    const bool forward = primary == Side::source;
    const RawRelation& relation = forward ? *it.target : *it.source;
    const RawCatalog& catalog = forward ? target_ : source_;
    const std::vector<std::string>& key = forward ? it.target_key : it.source_key;
    auto mirror = std::make_shared<Table>();
    mirror->id = db_.table_id(it.rule->source.text() + "->", it.rule->target.text());
    mirror->oid = relation.oid;
    mirror->schema = relation.schema;
    mirror->name = relation.name;
    mirror->partitioned = relation.kind == 'p';
    mirror->key.resize(key.size());
    for (const MappedColumn& mapped : columns) {
        Column column = mapped.column->column;
        // The types are equal by name, and binary ones are built in: what they look like on one side
        // they look like on the other.
        const TypeForm form = catalog.form(column.type);
        column.binary = form.binary;
        column.fragile = form.fragile;
        if (const auto at = std::find(key.begin(), key.end(), column.name); at != key.end()) {
            mirror->key[static_cast<std::size_t>(at - key.begin())] = mirror->columns.size();
        }
        mirror->columns.push_back(std::move(column));
    }
    return mirror;
}

std::shared_ptr<Mapping> MappedTables::one_mapping(const Resolved& it, Side primary) const {
    const auto& columns = primary == Side::source ? it.forward : it.backward;
    auto mapping = std::make_shared<Mapping>();
    mapping->name = it.rule->name();
    mapping->mirror = mirror_of(it, primary, columns);
    for (const MappedColumn& mapped : columns) {
        mapping->values.push_back(mapped.value);
    }
    if (!it.rule->where.sql.empty()) {
        (primary == Side::source ? mapping->passes : mapping->belongs) = it.rule->where;
    }
    mapping->no_reverse = it.no_reverse;
    const auto plain = [](const MappedColumn& mapped) { return mapped.value.plain; };
    mapping->plain = !mapping->passes && !mapping->belongs &&
                     std::all_of(it.forward.begin(), it.forward.end(), plain) &&
                     std::all_of(it.backward.begin(), it.backward.end(), plain);
    return mapping;
}

std::shared_ptr<Table> MappedTables::describe(const Resolved& it, Side primary) const {
    const bool forward = primary == Side::source;
    const RawRelation& relation = forward ? *it.source : *it.target;
    const RawCatalog& catalog = forward ? source_ : target_;
    auto table = std::make_shared<Table>();
    table->id = db_.table_id(it.rule->source.text() + "->", it.rule->target.text());
    table->oid = relation.oid;
    table->schema = relation.schema;
    table->name = relation.name;
    table->partitioned = relation.kind == 'p';
    for (const RawColumn& raw : relation.columns) {
        Column column = raw.column;
        const TypeForm form = catalog.form(column.type);
        column.binary = form.binary;
        column.fragile = form.fragile;
        table->columns.push_back(std::move(column));
    }
    for (const std::string& name : forward ? it.source_key : it.target_key) {
        for (std::size_t i = 0; i < table->columns.size(); ++i) {
            if (table->columns[i].name == name) {
                table->key.push_back(i);
            }
        }
    }
    if (!it.sound) {
        table->key.clear();
        table->not_captured_because = "bad_mapping";
        return table;
    }
    table->mapping = one_mapping(it, primary);
    if (!forward && !it.no_reverse.empty()) {
        table->not_captured_because = "no_reverse";
    }
    return table;
}

// The source's rows come from several tables of the target.
void MappedTables::turn_round(const Rules& rules, Mapping& mapping) const {
    std::vector<std::shared_ptr<const Table>> parts;
    auto mirror = std::make_shared<Table>(*mapping.mirror);
    RowExpression belongs;
    bool all_belong = false;
    for (const Resolved* it : rules) {
        parts.push_back(describe(*it, Side::target));
        for (const Column& column : parts.back()->on_mirror().columns) {
            if (std::none_of(mirror->columns.begin(), mirror->columns.end(),
                             [&](const Column& known) { return known.name == column.name; })) {
                mirror->columns.push_back(column);
            }
        }
        all_belong = all_belong || it->rule->where.sql.empty();
        belongs.sql += (belongs.sql.empty() ? "(" : " OR ") + it->rule->where.sql;
    }
    belongs.sql += ")";
    mapping.mirror = mirror;
    mapping.values.clear();
    mapping.plain = false;
    mapping.belongs.reset();
    if (!all_belong) {
        mapping.belongs = belongs;
    }
    mapping.combined = combined_rows(parts);
}

// True if reverse(forward(row)) = row follows from the rules alone: no expressions, and no column that
// only some rows of a split keep.
bool MappedTables::surely_reversible(const Rules& rules) {
    const auto computed = [](const MappedColumn& mapped) { return !mapped.value.plain; };
    return std::all_of(rules.begin(), rules.end(), [&](const Resolved* it) {
        return std::none_of(it->forward.begin(), it->forward.end(), computed) &&
               std::none_of(it->backward.begin(), it->backward.end(), computed) &&
               (rules.size() == 1 || it->rule->where.sql.empty());
    });
}

std::string MappedTables::check_of(const Rules& rules) const {
    if (surely_reversible(rules) || !std::all_of(rules.begin(), rules.end(), [](const Resolved* it) {
            return it->no_reverse.empty();
        })) {
        return {};
    }
    std::vector<std::shared_ptr<const Table>> forward;
    std::vector<std::shared_ptr<const Table>> backward;
    for (const Resolved* it : rules) {
        forward.push_back(describe(*it, Side::source));
        backward.push_back(describe(*it, Side::target));
    }
    return reverse_check(forward, backward);
}

std::vector<std::shared_ptr<Table>> MappedTables::tables(Side primary,
                                                         const RawRelation& relation) const {
    std::vector<std::shared_ptr<Table>> made;
    for (const Resolved& it : resolved_) {
        if ((primary == Side::source ? it.source : it.target) != &relation) {
            continue;
        }
        made.push_back(describe(it, primary));
        const Rules rules = rules_of(it.rule->source);
        const bool sound = std::all_of(rules.begin(), rules.end(),
                                       [](const Resolved* rule) { return rule->sound; });
        if (!sound) {
            made.back()->not_captured_because = "bad_mapping";
            continue;
        }
        auto mapping = std::make_shared<Mapping>(*made.back()->mapping);
        if (primary == Side::target && rules.size() > 1) {
            turn_round(rules, *mapping);
        }
        mapping->plain = mapping->plain && rules.size() == 1;
        if (primary == Side::source && made.size() == 1) {
            mapping->reverse_check = check_of(rules);
        }
        made.back()->mapping = std::move(mapping);
    }
    return made;
}

std::map<std::string, std::string> MappedTables::sequences() const {
    std::map<std::string, std::string> twins;
    for (const Resolved& it : resolved_) {
        for (const MappedColumn& mapped : it.forward) {
            const RawColumn* from = mapped.value.plain && it.source != nullptr
                                        ? find_column(*it.source, mapped.value.columns.front())
                                        : nullptr;
            if (from != nullptr && !from->sequence.empty() && !mapped.column->sequence.empty()) {
                twins.try_emplace(from->sequence, mapped.column->sequence);
            }
        }
    }
    return twins;
}

}  // namespace banyan::router
