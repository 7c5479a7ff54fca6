// Reading TOML with errors a person can act on. A Section reads one table by name, remembers
// which keys exist, and reports what is left over as unknown. All problems go to one Problems
// list, each as "file:line: key: what is wrong; what to do".
#pragma once

#include <toml++/toml.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace banyan::router {

/// What was found wrong with one file, and (for documentation's sake) the keys that were looked
/// for.
class Problems {
   public:
    /// `documenting`: there is no file, only the keys are of interest.
    explicit Problems(std::filesystem::path file, bool documenting = false)
        : file_(std::move(file)), documenting_(documenting) {}
    bool documenting() const { return documenting_; }
    /// `line` 0: the file as a whole (something is missing).
    void add(std::uint32_t line, const std::string& key, const std::string& text);
    void known(std::string key) { keys_.push_back(std::move(key)); }
    /// The value that a key has, read or default; those of several tables of an array add up.
    void value(const std::string& key, const std::string& text) { values_[key] += text + '\0'; }
    bool empty() const { return lines_.empty(); }
    std::string text() const;
    std::vector<std::string> keys() && { return std::move(keys_); }
    std::map<std::string, std::string> values() && { return std::move(values_); }

   private:
    std::filesystem::path file_;
    bool documenting_;
    std::vector<std::pair<std::uint32_t, std::string>> lines_;
    std::vector<std::string> keys_;
    std::map<std::string, std::string> values_;
};

/// One table of the file. `table` may be null: then every key keeps its default. Views into the
/// parsed document: the document outlives the Section.
class Section {
   public:
    Section(Problems& problems, const toml::table* table, std::string path);

    void text(std::string_view key, std::string& out);
    void path(std::string_view key, std::filesystem::path& out);
    void boolean(std::string_view key, bool& out);
    void number(std::string_view key, double& out, double low, double high);
    /// Any of these words.
    void word(std::string_view key, std::string& out, const std::vector<std::string>& words);
    void strings(std::string_view key, std::vector<std::string>& out);
    /// A table of strings, as { a = "b" }.
    void string_map(std::string_view key, std::map<std::string, std::string>& out);
    void milliseconds(std::string_view key, std::chrono::milliseconds& out, std::int64_t low,
                      std::int64_t high);
    template <class T>
    void integer(std::string_view key, T& out, std::int64_t low,
                 std::int64_t high = std::numeric_limits<T>::max()) {
        if (const auto value = read_integer(key, low, high)) {
            out = static_cast<T>(*value);
        }
        problems_.value(full(key), std::to_string(out));
    }
    /// Fails unless the key is there; `why` says what to write.
    void require(std::string_view key, std::string_view why);

    Section section(std::string_view key);
    /// [[key]]: calls `read` once for every table; when documenting, once with none.
    void each(std::string_view key, const std::function<void(Section&)>& read);

    /// Reports what nobody asked for. Call last.
    void finish();

    /// A problem with this key's value found by the caller.
    void bad(std::string_view key, const std::string& text);
    bool has(std::string_view key) const;

   private:
    const toml::node* find(std::string_view key);
    void read_text(std::string_view key, std::string& out);
    void read_boolean(std::string_view key, bool& out);
    void read_number(std::string_view key, double& out, double low, double high);
    void read_strings(std::string_view key, std::vector<std::string>& out);
    void read_string_map(std::string_view key, std::map<std::string, std::string>& out);
    std::optional<std::int64_t> read_integer(std::string_view key, std::int64_t low,
                                             std::int64_t high);
    std::string full(std::string_view key) const;
    void wrong_type(std::string_view key, const toml::node& node, std::string_view wanted);

    Problems& problems_;
    const toml::table* table_;
    std::string path_;
    std::vector<std::string> known_;
};

}  // namespace banyan::router
