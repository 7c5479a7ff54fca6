#include "router/preflight/drift.hpp"

#include <map>
#include <string_view>
#include <utility>

namespace banyan::router {
namespace {

using Key = std::pair<std::string, std::string>;  // kind, name
using Definitions = std::map<Key, std::string>;

std::string text_of(const boost::json::object& object, const char* name) {
    const auto* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

Definitions read(const boost::json::array& objects) {
    Definitions found;
    for (const auto& each : objects) {
        if (const auto* object = each.if_object()) {
            found.emplace(Key{text_of(*object, "kind"), text_of(*object, "name")},
                          text_of(*object, "definition"));
        }
    }
    return found;
}

bool belongs_to_table(std::string_view kind) {
    return kind == "column" || kind == "constraint" || kind == "trigger" || kind == "rule" ||
           kind == "policy";
}

/// "schema.table" of "schema.table.column"; names may contain dots, so every prefix is tried.
bool of_one_of(const Key& key, const std::set<std::string>& tables) {
    if (tables.contains(key.second)) {
        return key.first == "table";
    }
    if (!belongs_to_table(key.first)) {
        return false;
    }
    for (auto dot = key.second.find('.'); dot != std::string::npos;
         dot = key.second.find('.', dot + 1)) {
        if (tables.contains(key.second.substr(0, dot))) {
            return true;
        }
    }
    return false;
}

std::set<std::string> tables_missing(const Definitions& from, const Definitions& other) {
    std::set<std::string> missing;
    for (const auto& [key, definition] : from) {
        if (key.first == "table" && !other.contains(key)) {
            missing.insert(key.second);
        }
    }
    return missing;
}

}  // namespace

std::vector<Drift> schema_drift(const boost::json::array& source, const boost::json::array& target,
                                const std::set<std::string>& left_out) {
    const Definitions left = read(source);
    const Definitions right = read(target);
    auto missing = tables_missing(left, right);
    missing.merge(tables_missing(right, left));
    const auto skipped = [&](const Key& key) {
        return of_one_of(key, left_out) || (key.first != "table" && of_one_of(key, missing));
    };
    std::vector<Drift> drift;
    const auto add = [&](Drift::What what, const Key& key, std::string a, std::string b) {
        if (!skipped(key)) {
            drift.push_back({what, key.first, key.second, std::move(a), std::move(b)});
        }
    };
    auto at = left.begin();
    auto other = right.begin();
    while (at != left.end() || other != right.end()) {
        if (other == right.end() || (at != left.end() && at->first < other->first)) {
            add(Drift::What::only_on_source, at->first, at->second, "");
            ++at;
        } else if (at == left.end() || other->first < at->first) {
            add(Drift::What::only_on_target, other->first, "", other->second);
            ++other;
        } else {
            if (at->second != other->second) {
                add(Drift::What::differs, at->first, at->second, other->second);
            }
            ++at;
            ++other;
        }
    }
    return drift;
}

}  // namespace banyan::router
