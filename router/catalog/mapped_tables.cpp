#include "router/catalog/mapped_tables.hpp"

#include <algorithm>
#include <optional>
#include <tuple>

namespace banyan::router {
namespace {

using Names = std::vector<std::string>;

bool contains(const Names& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

std::string listed(const Names& names) {
    std::string text;
    for (const std::string& name : names) {
        text += (text.empty() ? "" : ", ") + name;
    }
    return text;
}

bool is_table(const RawRelation* relation) {
    return relation != nullptr && !relation->is_partition &&
           (relation->kind == 'r' || relation->kind == 'p');
}

RowExpression plain_column(const std::string& name) {
    return {quote_identifier(name), {name}, true};
}

/// The part of a source's key that a rule maps: source column -> target column, plain ones only.
template <class Columns>
std::map<std::string, std::string> renames(const Columns& forward) {
    std::map<std::string, std::string> names;
    for (const auto& it : forward) {
        if (it.value.plain) {
            names.try_emplace(it.value.columns.front(), it.column->column.name);
        }
    }
    return names;
}

/// Not to be compared by what the source calls them: a rule that changes nothing is no mapping.
bool identity(const MappingRule& rule, std::size_t rules_of_source) {
    return rules_of_source == 1 && rule.source == rule.target && rule.where.sql.empty() &&
           rule.ignore.empty() &&
           std::all_of(rule.columns.begin(), rule.columns.end(),
                       [](const auto& it) {
                           return it.second.plain && it.second.columns.front() == it.first;
                       }) &&
           std::all_of(rule.reverse.begin(), rule.reverse.end(), [](const auto& it) {
               return it.second.plain && it.second.columns.front() == it.first;
           });
}

}  // namespace

MappedTables::MappedTables(const std::vector<MappingRule>& rules, const RawCatalog& source,
                           const RawCatalog& target, StateDb& db)
    : source_(source), target_(target), db_(db) {
    for (const MappingRule& rule : rules) {
        const auto same = std::count_if(rules.begin(), rules.end(), [&](const MappingRule& other) {
            return other.source == rule.source;
        });
        if (!identity(rule, static_cast<std::size_t>(same))) {
            resolved_.push_back({.rule = &rule,
                                 .source = source.find(rule.source.schema, rule.source.name),
                                 .target = target.find(rule.target.schema, rule.target.name),
                                 .forward = {},
                                 .backward = {},
                                 .source_key = {},
                                 .target_key = {},
                                 .no_reverse = {}});
        }
    }
    for (Resolved& it : resolved_) {
        resolve(it);
        it.known = it.sound;
    }
    std::set<TableName> sources;
    for (const Resolved& it : resolved_) {
        if (sources.insert(it.rule->source).second) {
            check_split(it.rule->source);
        }
    }
}

void MappedTables::problem(Resolved& it, const std::string& text) {
    it.sound = false;
    problems_.push_back("mapping " + it.rule->name() + ": " + text);
}

void MappedTables::resolve(Resolved& it) {
    if (!is_table(it.source)) {
        problem(it, "the source has no table " + it.rule->source.text() +
                        "; correct `source`, or create the table there");
    }
    if (!is_table(it.target)) {
        problem(it, "the target has no table " + it.rule->target.text() +
                        "; correct `target`, or create the table there");
    }
    if (!it.sound) {
        return;
    }
    map_forward(it);
    for (const std::string& name : it.rule->where.columns) {
        if (find_column(*it.source, name) == nullptr) {
            problem(it, "where: " + it.rule->source.text() + " has no column " + name);
        }
    }
    for (const std::string& name : it.rule->ignore) {
        if (find_column(*it.source, name) == nullptr) {
            problem(it, "ignore: " + it.rule->source.text() + " has no column " + name);
        }
    }
    map_backward(it);
    if (it.sound) {
        choose_key(it);
    }
    for (std::size_t i = 0; it.sound && i < it.source_key.size(); ++i) {
        const auto given = it.rule->reverse.find(it.source_key[i]);
        if (given != it.rule->reverse.end() &&
            !(given->second.plain && given->second.columns.front() == it.target_key[i])) {
            problem(it, "reverse." + it.source_key[i] + ": is part of the key, which is " +
                            it.target_key[i] + " on the target and nothing else; leave it out");
        }
    }
}

void MappedTables::map_forward(Resolved& it) {
    const MappingRule& rule = *it.rule;
    for (const auto& [name, expression] : rule.columns) {
        const RawColumn* column = find_column(*it.target, name);
        if (column == nullptr) {
            problem(it, "columns." + name + ": " + rule.target.text() + " has no such column");
        } else if (column->column.generated) {
            problem(it, "columns." + name + ": is a generated column, which nobody can write; " +
                            "leave it out");
        }
        for (const std::string& used : expression.columns) {
            if (find_column(*it.source, used) == nullptr) {
                problem(it, "columns." + name + ": " + rule.source.text() + " has no column " + used);
            }
        }
    }
    for (const RawColumn& column : it.target->columns) {
        const std::string& name = column.column.name;
        if (column.column.generated) {
            continue;
        }
        if (const auto given = rule.columns.find(name); given != rule.columns.end()) {
            it.forward.push_back({&column, given->second});
        } else if (find_column(*it.source, name) != nullptr) {
            it.forward.push_back({&column, plain_column(name)});
        } else if (!optional_column(column)) {
            problem(it, "nothing is mapped to " + rule.target.text() + "." + name +
                            ", which is NOT NULL and has no default; add it to `columns`");
        }
    }
    for (const MappedColumn& mapped : it.forward) {
        const RawColumn* from =
            mapped.value.plain ? find_column(*it.source, mapped.value.columns.front()) : nullptr;
        if (from != nullptr && from->column.type_name != mapped.column->column.type_name) {
            problem(it, "columns." + mapped.column->column.name + ": is of type " +
                            mapped.column->column.type_name + ", but " + from->column.name +
                            " is of type " + from->column.type_name + "; write " +
                            from->column.name + "::" + mapped.column->column.type_name);
        }
    }
}

// What the rule says, and where a plain column of the target holds a column of the source, that.
void MappedTables::map_backward(Resolved& it) {
    const MappingRule& rule = *it.rule;
    for (const auto& [name, expression] : rule.reverse) {
        const RawColumn* column = find_column(*it.source, name);
        if (column == nullptr || column->column.generated) {
            problem(it, "reverse." + name + ": " + rule.source.text() + " has no such column" +
                            (column == nullptr ? "" : " that can be written"));
        }
        for (const std::string& used : expression.columns) {
            if (find_column(*it.target, used) == nullptr) {
                problem(it,
                        "reverse." + name + ": " + rule.target.text() + " has no column " + used);
            }
        }
    }
    const auto names = renames(it.forward);
    for (const RawColumn& column : it.source->columns) {
        const std::string& name = column.column.name;
        if (column.column.generated) {
            continue;
        }
        if (const auto given = rule.reverse.find(name); given != rule.reverse.end()) {
            const RawColumn* from = given->second.plain
                                        ? find_column(*it.target, given->second.columns.front())
                                        : nullptr;
            if (from != nullptr && from->column.type_name != column.column.type_name) {
                problem(it, "reverse." + name + ": is of type " + column.column.type_name + ", but " +
                                from->column.name + " is of type " + from->column.type_name +
                                "; write " + from->column.name + "::" + column.column.type_name);
            }
            it.backward.push_back({&column, given->second});
        } else if (const auto renamed = names.find(name); renamed != names.end()) {
            it.backward.push_back({&column, plain_column(renamed->second)});
        }
    }
    Names changed;
    for (const MappedColumn& mapped : it.forward) {
        if (!mapped.value.plain) {
            changed.push_back(mapped.column->column.name);
        }
    }
    if (rule.reverse.empty() && !changed.empty()) {
        it.no_reverse = "has expressions (" + listed(changed) +
                        ") and no `reverse`: write reverse = { column of " + rule.source.text() +
                        " = \"expression over a row of " + rule.target.text() + "\" }";
    }
}

// As for unmapped tables the choice does not depend on which side is primary, so that keys outlive a
// flip: the source's primary key if it can be, in the source's order of columns.
void MappedTables::choose_key(Resolved& it) {
    const auto names = renames(it.forward);
    std::vector<const RawKey*> keys;
    for (const RawKey& key : it.source->keys) {
        keys.push_back(&key);
    }
    std::stable_sort(keys.begin(), keys.end(), [](const RawKey* a, const RawKey* b) {
        return std::tuple(!a->primary, a->columns.size()) < std::tuple(!b->primary, b->columns.size());
    });
    for (const RawKey* key : keys) {
        Names there;
        for (const std::string& name : key->columns) {
            const auto renamed = names.find(name);
            if (renamed != names.end() && usable_in_key(source_, *it.source, name) &&
                usable_in_key(target_, *it.target, renamed->second)) {
                there.push_back(renamed->second);
            }
        }
        const bool unique_there = std::any_of(
            it.target->keys.begin(), it.target->keys.end(), [&](const RawKey& candidate) {
                return candidate.not_null &&
                       std::set(candidate.columns.begin(), candidate.columns.end()) ==
                           std::set(there.begin(), there.end());
            });
        if (key->not_null && there.size() == key->columns.size() && unique_there) {
            it.source_key = key->columns;
            it.target_key = there;
            return;
        }
    }
    problem(it, "no key of " + it.rule->source.text() +
                    " (primary key, or unique index over NOT NULL columns) is mapped column by column, "
                    "without expressions, to columns that are a key of " +
                    it.rule->target.text() + "; add such columns and a unique index");
}

MappedTables::Rules MappedTables::rules_of(const TableName& source) const {
    Rules rules;
    for (const Resolved& it : resolved_) {
        if (it.rule->source == source) {
            rules.push_back(&it);
        }
    }
    return rules;
}

// What only all rules of one table show together.
void MappedTables::check_split(const TableName& source) {
    std::vector<Resolved*> rules;
    for (Resolved& it : resolved_) {
        if (it.rule->source == source) {
            rules.push_back(&it);
        }
    }
    if (!std::all_of(rules.begin(), rules.end(), [](const Resolved* it) { return it->sound; })) {
        return;
    }
    Names used;
    Names covered;
    for (const Resolved* it : rules) {
        used.insert(used.end(), it->rule->ignore.begin(), it->rule->ignore.end());
        for (const MappedColumn& mapped : it->forward) {
            used.insert(used.end(), mapped.value.columns.begin(), mapped.value.columns.end());
        }
        for (const MappedColumn& mapped : it->backward) {
            covered.push_back(mapped.column->column.name);
        }
    }
    Names unused;
    Names needed;
    for (const RawColumn& column : rules.front()->source->columns) {
        if (!column.column.generated && !contains(used, column.column.name)) {
            unused.push_back(column.column.name);
        }
        if (!contains(covered, column.column.name) && !optional_column(column)) {
            needed.push_back(column.column.name);
        }
    }
    if (!unused.empty()) {
        problem(*rules.front(), "no column of the target holds " + listed(unused) +
                                    "; add them to `columns`, or to `ignore` if they may be lost");
    }
    for (Resolved* it : rules) {
        if (it->source_key != rules.front()->source_key) {
            problem(*it, "its key (" + listed(it->source_key) + ") is not that of " +
                             rules.front()->rule->name() + " (" +
                             listed(rules.front()->source_key) +
                             "); the tables of a split need the same key");
        }
        if (it->no_reverse.empty() && !needed.empty()) {
            it->no_reverse = "no `reverse` gives " + listed(needed) + " of " + source.text() +
                             ", which are NOT NULL and have no default; add them to `reverse`";
        }
    }
}

Result<void> MappedTables::check(Connection& source, Connection& target) {
    std::deque<ExpressionCheck> all;
    std::vector<std::tuple<Resolved*, std::string, ExpressionCheck*>> asked;
    std::vector<ExpressionCheck*> of_source;
    std::vector<ExpressionCheck*> of_target;
    for (Resolved& it : resolved_) {
        if (!it.known) {
            continue;
        }
        const auto ask = [&](const std::string& what, const TableName& table,
                             const RowExpression& expression, const std::string& type) {
            auto& list = &table == &it.rule->source ? of_source : of_target;
            list.push_back(&all.emplace_back(ExpressionCheck{table, expression, type, {}}));
            asked.emplace_back(&it, what, list.back());
        };
        for (const MappedColumn& mapped : it.forward) {
            if (!mapped.value.plain) {
                ask("columns." + mapped.column->column.name, it.rule->source, mapped.value,
                    mapped.column->column.type_name);
            }
        }
        for (const MappedColumn& mapped : it.backward) {
            if (!mapped.value.plain) {
                ask("reverse." + mapped.column->column.name, it.rule->target, mapped.value,
                    mapped.column->column.type_name);
            }
        }
        if (!it.rule->where.sql.empty()) {
            ask("where", it.rule->source, it.rule->where, "boolean");
        }
    }
    BANYAN_TRY(check_expressions(source, of_source));
    BANYAN_TRY(check_expressions(target, of_target));
    for (const auto& [it, what, check] : asked) {
        if (!check->problem.empty()) {
            problem(*it, what + ": " + check->problem);
        }
    }
    return {};
}

}  // namespace banyan::router
