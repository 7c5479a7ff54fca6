#include "router/config/toml_section.hpp"

#include <algorithm>
#include <sstream>

namespace banyan::router {
namespace {

std::string_view type_name(const toml::node& node) {
    switch (node.type()) {
        case toml::node_type::none:
            return "nothing";
        case toml::node_type::table:
            return "a table";
        case toml::node_type::array:
            return "an array";
        case toml::node_type::string:
            return "a string";
        case toml::node_type::integer:
            return "an integer";
        case toml::node_type::floating_point:
            return "a number with a fraction";
        case toml::node_type::boolean:
            return "a boolean";
        case toml::node_type::date:
            return "a date";
        case toml::node_type::time:
            return "a time";
        case toml::node_type::date_time:
            return "a date and time";
    }
    return "something else";
}

/// Levenshtein's distance; the words here have a few dozen letters at most.
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) {
        row[j] = j;
    }
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0U : 1U);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
        }
    }
    return row[b.size()];
}

std::string list(const std::vector<std::string>& words) {
    std::string text;
    for (const auto& word : words) {
        text += (text.empty() ? "" : ", ") + word;
    }
    return text;
}

std::string plain(double value) {
    std::ostringstream text;
    text << value;
    return text.str();
}

}  // namespace

void Problems::add(std::uint32_t line, const std::string& key, const std::string& text) {
    std::string message = file_.string();
    if (line != 0) {
        message += ":" + std::to_string(line);
    }
    lines_.emplace_back(line, message + ": " + key + ": " + text);
}

std::string Problems::text() const {
    auto lines = lines_;
    std::stable_sort(lines.begin(), lines.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::string text;
    for (const auto& [line, message] : lines) {
        text += (text.empty() ? "" : "\n") + message;
    }
    return text;
}

Section::Section(Problems& problems, const toml::table* table, std::string path)
    : problems_(problems), table_(table), path_(std::move(path)) {}

std::string Section::full(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

bool Section::has(std::string_view key) const {
    return table_ != nullptr && table_->contains(key);
}

const toml::node* Section::find(std::string_view key) {
    known_.emplace_back(key);
    return table_ == nullptr ? nullptr : table_->get(key);
}

void Section::bad(std::string_view key, const std::string& text) {
    const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
    if (node == nullptr) {
        node = table_;
    }
    problems_.add(node == nullptr ? 0 : node->source().begin.line, full(key), text);
}

void Section::wrong_type(std::string_view key, const toml::node& node, std::string_view wanted) {
    bad(key, "is " + std::string(type_name(node)) + "; write " + std::string(wanted));
}

void Section::read_text(std::string_view key, std::string& out) {
    problems_.known(full(key));
    const toml::node* node = find(key);
    if (node == nullptr) {
        return;
    }
    const auto value = node->value_exact<std::string>();
    if (!value) {
        return wrong_type(key, *node, "a string in quotes");
    }
    if (value->find('\0') != std::string::npos) {
        return bad(key, "has a zero byte in it; remove it");
    }
    out = *value;
}

void Section::text(std::string_view key, std::string& out) {
    read_text(key, out);
    problems_.value(full(key), out);
}

void Section::boolean(std::string_view key, bool& out) {
    read_boolean(key, out);
    problems_.value(full(key), out ? "true" : "false");
}

void Section::number(std::string_view key, double& out, double low, double high) {
    read_number(key, out, low, high);
    problems_.value(full(key), plain(out));
}

void Section::strings(std::string_view key, std::vector<std::string>& out) {
    read_strings(key, out);
    for (const auto& each : out) {
        problems_.value(full(key), each);
    }
}

void Section::string_map(std::string_view key, std::map<std::string, std::string>& out) {
    read_string_map(key, out);
    for (const auto& [name, value] : out) {
        problems_.value(full(key), name + " = " + value);
    }
    problems_.value(full(key), "");  // where one table's end and the next one's begin
}

void Section::path(std::string_view key, std::filesystem::path& out) {
    std::string value = out.string();
    text(key, value);
    out = value;
}

void Section::read_boolean(std::string_view key, bool& out) {
    problems_.known(full(key));
    if (const toml::node* node = find(key)) {
        const auto value = node->value_exact<bool>();
        if (!value) {
            return wrong_type(key, *node, "true or false, without quotes");
        }
        out = *value;
    }
}

void Section::read_number(std::string_view key, double& out, double low, double high) {
    problems_.known(full(key));
    const toml::node* node = find(key);
    if (node == nullptr) {
        return;
    }
    const std::string range = "a number from " + plain(low) + " to " + plain(high);
    const auto value = node->is_number() ? node->value<double>() : std::nullopt;
    if (!value) {
        return wrong_type(key, *node, range);
    }
    if (!(*value >= low && *value <= high)) {  // so that NaN is refused
        return bad(key, "is " + plain(*value) + "; write " + range);
    }
    out = *value;
}

void Section::word(std::string_view key, std::string& out, const std::vector<std::string>& words) {
    const bool given = has(key);
    std::string value = out;
    const std::string before = value;
    text(key, value);
    if (given && std::find(words.begin(), words.end(), value) == words.end()) {
        return bad(key, "is \"" + value + "\"; write one of " + list(words));
    }
    out = value;
}

void Section::read_strings(std::string_view key, std::vector<std::string>& out) {
    problems_.known(full(key));
    const toml::node* node = find(key);
    if (node == nullptr) {
        return;
    }
    const toml::array* array = node->as_array();
    if (array == nullptr) {
        return wrong_type(key, *node, "an array of strings, as in [\"a\", \"b\"]");
    }
    out.clear();
    for (const toml::node& element : *array) {
        const auto value = element.value_exact<std::string>();
        if (!value) {
            problems_.add(element.source().begin.line, full(key),
                          "has " + std::string(type_name(element)) +
                              " in it; write every element as a string in quotes");
            return;
        }
        out.push_back(*value);
    }
}

void Section::read_string_map(std::string_view key, std::map<std::string, std::string>& out) {
    problems_.known(full(key));
    const toml::node* node = find(key);
    if (node == nullptr) {
        return;
    }
    const toml::table* table = node->as_table();
    if (table == nullptr) {
        return wrong_type(key, *node, "a table of strings, as in { a = \"b\" }");
    }
    for (const auto& [name, element] : *table) {
        const auto value = element.value_exact<std::string>();
        if (!value) {
            problems_.add(element.source().begin.line, full(key) + "." + std::string(name.str()),
                          "is " + std::string(type_name(element)) + "; write a string in quotes");
            continue;
        }
        out.emplace(std::string(name.str()), *value);
    }
}

std::optional<std::int64_t> Section::read_integer(std::string_view key, std::int64_t low,
                                                  std::int64_t high) {
    problems_.known(full(key));
    const toml::node* node = find(key);
    if (node == nullptr) {
        return std::nullopt;
    }
    const std::string range =
        "an integer from " + std::to_string(low) + " to " + std::to_string(high);
    const auto value = node->value_exact<std::int64_t>();
    if (!value) {
        wrong_type(key, *node, range + ", without quotes or unit");
        return std::nullopt;
    }
    if (*value < low || *value > high) {
        bad(key, "is " + std::to_string(*value) + "; write " + range);
        return std::nullopt;
    }
    return *value;
}

void Section::milliseconds(std::string_view key, std::chrono::milliseconds& out, std::int64_t low,
                           std::int64_t high) {
    if (const auto value = read_integer(key, low, high)) {
        out = std::chrono::milliseconds(*value);
    }
    problems_.value(full(key), std::to_string(out.count()));
}

void Section::require(std::string_view key, std::string_view why) {
    if (!has(key)) {
        bad(key, "is missing; write " + std::string(why));
    }
}

Section Section::section(std::string_view key) {
    const toml::node* node = find(key);
    const toml::table* table = node == nullptr ? nullptr : node->as_table();
    if (node != nullptr && table == nullptr) {
        wrong_type(key, *node, "a table: a line [" + full(key) + "] with its keys below");
    }
    return {problems_, table, full(key)};
}

void Section::each(std::string_view key, const std::function<void(Section&)>& read) {
    const std::string path = full(key) + "[]";
    const toml::node* node = find(key);
    if (problems_.documenting()) {
        Section none(problems_, nullptr, path);
        return read(none);
    }
    if (node == nullptr) {
        return;
    }
    const toml::array* array = node->as_array();
    if (array == nullptr || !std::all_of(array->begin(), array->end(),
                                         [](const toml::node& e) { return e.is_table(); })) {
        return wrong_type(key, *node, "tables: a line [[" + full(key) + "]] before each one");
    }
    for (const toml::node& element : *array) {
        Section one(problems_, element.as_table(), path);
        read(one);
    }
}

void Section::finish() {
    if (table_ == nullptr) {
        return;
    }
    for (const auto& [key, node] : *table_) {
        const std::string name(key.str());
        if (std::find(known_.begin(), known_.end(), name) != known_.end()) {
            continue;
        }
        const auto nearest = std::min_element(
            known_.begin(), known_.end(),
            [&](const auto& a, const auto& b) { return distance(a, name) < distance(b, name); });
        std::string advice = "remove it; known here are: " + list(known_);
        if (nearest != known_.end() && distance(*nearest, name) <= 2 + name.size() / 4) {
            advice = "did you mean " + *nearest + "? Known here are: " + list(known_);
        }
        problems_.add(key.source().begin.line, full(name), "is not a known key; " + advice);
    }
}

}  // namespace banyan::router
