#include "router/sql/nesting.hpp"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <vector>

namespace banyan::router {

namespace {

/// Up to this bound the caller's own stack serves: a level takes at most about 6 KiB (measured:
/// nested sub-selects, six messages of the tree a level).
constexpr std::size_t nesting_in_place = 48;
constexpr std::size_t deep_stack_bytes = std::size_t{96} << 20U;

bool is_word_start(unsigned char c) {
    return std::isalpha(c) != 0 || c == '_' || c >= 0x80;
}
bool is_word(unsigned char c) {
    return is_word_start(c) || std::isdigit(c) != 0 || c == '$';
}

/// Words that make a tree deeper without brackets, each on top of what stands before it.
bool deepens(std::string_view word) {
    static constexpr std::array<std::string_view, 15> words = {
        "not",  "is",      "isnull",   "notnull", "collate", "at",  "between", "in",
        "like", "similar", "overlaps", "escape",  "any",     "all", "ilike"};
    return std::find(words.begin(), words.end(), word) != words.end();
}

/// Words that chain whole lists, so that a comma does not end their chain.
bool chains(std::string_view word) {
    return word == "union" || word == "intersect" || word == "except" || word == "join";
}

/// The open brackets of a query; CASE ... END counts as one.
class Levels {
   public:
    void open(char bracket) { levels_.push_back(Level{.bracket = bracket}); }

    void close(char bracket) {
        // A CASE left open inside parentheses is a syntax error; only the bound must stay sane.
        while (levels_.size() > 1 && levels_.back().bracket == 'c' && bracket != 'c') {
            pop();
        }
        if (levels_.size() > 1 && levels_.back().bracket == bracket) {
            pop();
        }
    }

    void deepen() { ++levels_.back().operators; }
    void chain() {
        separate();
        ++levels_.back().chain;
    }
    void between() {
        deepen();
        ++levels_.back().betweens;
    }
    void conjunction() {
        Level& level = levels_.back();
        if (level.betweens > 0) {
            --level.betweens;  // the AND of BETWEEN: its right side may nest on
            deepen();
        } else {
            separate();
        }
    }
    /// A comma, AND or OR: what follows stands beside what came before, not on top of it.
    void separate() {
        Level& level = levels_.back();
        level.deepest = std::max(level.deepest, level.operators + level.nested);
        level.operators = 0;
        level.nested = 0;
        level.betweens = 0;
    }
    std::size_t finish() {
        while (levels_.size() > 1) {
            pop();
        }
        separate();
        return levels_.back().deepest + levels_.back().chain;
    }

   private:
    struct Level {
        char bracket = 0;
        std::size_t operators = 0;  // since the last separator
        std::size_t nested = 0;     // deepest bracket since the last separator
        std::size_t deepest = 0;
        std::size_t chain = 0;
        std::size_t betweens = 0;
    };

    void pop() {
        separate();
        const std::size_t depth = levels_.back().deepest + levels_.back().chain + 1;
        levels_.pop_back();
        levels_.back().nested = std::max(levels_.back().nested, depth);
    }

    std::vector<Level> levels_{Level{}};
};

/// Steps over what holds no tokens. Mirrors scan.l with standard_conforming_strings on, as
/// libpg_query reads it.
class Skipper {
   public:
    explicit Skipper(std::string_view sql) : sql_(sql) {}

    /// Past the end of a quoted string or identifier whose opening quote is at `at`.
    std::size_t quoted(std::size_t at, char quote, bool backslashes) const {
        for (++at; at < sql_.size(); ++at) {
            if (backslashes && sql_[at] == '\\') {
                ++at;
            } else if (sql_[at] == quote) {
                return at + 1;  // a doubled quote reads as two strings side by side: the same
            }
        }
        return sql_.size();
    }
    std::size_t escape_quoted(std::size_t at) const {
        // Not so with backslashes: after a doubled quote the next part still has them.
        std::size_t end = quoted(at, '\'', true);
        while (end < sql_.size()) {
            const std::size_t part = continued(end);
            if (part >= sql_.size() || sql_[part] != '\'') {
                break;
            }
            end = quoted(part, '\'', true);
        }
        return end;
    }
    /// Where a string that ended before `at` may go on: behind white space that has a line break
    /// (quotecontinue in scan.l). `at` itself if there is none.
    std::size_t continued(std::size_t at) const {
        bool line_break = false;
        std::size_t end = at;
        while (end < sql_.size()) {
            if (std::isspace(static_cast<unsigned char>(sql_[end])) != 0) {
                line_break = line_break || sql_[end] == '\n' || sql_[end] == '\r';
                ++end;
            } else if (sql_.substr(end, 2) == "--") {
                end = line(end);
            } else {
                break;
            }
        }
        return line_break ? end : at;
    }
    std::size_t line(std::size_t at) const {
        const std::size_t end = sql_.find_first_of("\r\n", at);
        return end == std::string_view::npos ? sql_.size() : end;
    }
    std::size_t comment(std::size_t at) {
        std::size_t depth = 0;
        for (; at + 1 < sql_.size(); ++at) {
            if (sql_[at] == '/' && sql_[at + 1] == '*') {
                count_rescan(at);
                ++depth;
                ++at;
            } else if (sql_[at] == '*' && sql_[at + 1] == '/') {
                ++at;
                if (--depth == 0) {
                    return at + 1;
                }
            }
        }
        return sql_.size();
    }
    /// Past a dollar-quoted string, or just past the dollar if there is none.
    std::size_t dollar(std::size_t at) const {
        std::size_t tag_end = at + 1;
        while (tag_end < sql_.size() && sql_[tag_end] != '$' &&
               is_word(static_cast<unsigned char>(sql_[tag_end]))) {
            ++tag_end;
        }
        const bool number =
            at + 1 < sql_.size() && std::isdigit(static_cast<unsigned char>(sql_[at + 1])) != 0;
        if (number || tag_end >= sql_.size() || sql_[tag_end] != '$') {
            return at + 1;
        }
        const std::string_view tag = sql_.substr(at, tag_end + 1 - at);
        const std::size_t end = sql_.find(tag, tag_end + 1);
        return end == std::string_view::npos ? sql_.size() : end + tag.size();
    }

    /// Characters that the scanner will read again and again: its rule for the start of a comment
    /// takes the whole run of operator characters and gives back all but two (xcstart in scan.l),
    /// so "/*/*/*..." costs it the square of its length: minutes for a megabyte.
    std::size_t rescanned() const { return rescanned_; }

   private:
    void count_rescan(std::size_t at) {
        if (at >= run_end_) {
            run_end_ = std::min(sql_.find_first_not_of("~!@#^&|`?+-*/%<>=", at), sql_.size());
        }
        rescanned_ += run_end_ - at;
    }

    std::string_view sql_;
    std::size_t run_end_ = 0;
    std::size_t rescanned_ = 0;
};

constexpr std::size_t max_rescanned = std::size_t{8} << 20U;

std::size_t read_word(std::string_view sql, std::size_t at, Levels& levels) {
    std::size_t end = at;
    std::string word;
    while (end < sql.size() && is_word(static_cast<unsigned char>(sql[end]))) {
        if (word.size() < 16) {
            word.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(sql[end]))));
        }
        ++end;
    }
    if (word == "e" && end < sql.size() && sql[end] == '\'') {
        return Skipper(sql).escape_quoted(end);
    }
    if (word == "case") {
        levels.open('c');
    } else if (word == "end") {
        levels.close('c');
    } else if (word == "and") {
        levels.conjunction();
    } else if (word == "or") {
        levels.separate();
    } else if (word == "between") {
        levels.between();
    } else if (chains(word)) {
        levels.chain();
    } else if (deepens(word)) {
        levels.deepen();
    }
    return end;
}

}  // namespace

std::size_t nesting_bound(std::string_view sql) {
    Levels levels;
    Skipper skip(sql);
    std::size_t at = 0;
    while (at < sql.size()) {
        const char c = sql[at];
        const char next = at + 1 < sql.size() ? sql[at + 1] : '\0';
        if (is_word_start(static_cast<unsigned char>(c))) {
            at = read_word(sql, at, levels);
            continue;
        }
        if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
            ++at;
            continue;
        }
        switch (c) {
            case '\'':
            case '"':
                at = skip.quoted(at, c, false);
                continue;
            case '$':
                at = skip.dollar(at);
                continue;
            case '(':
            case '[':
                levels.open(c);
                break;
            case ')':
                levels.close('(');
                break;
            case ']':
                levels.close('[');
                break;
            case ',':
            case ';':
                levels.separate();
                break;
            case '-':
                if (next == '-') {
                    at = skip.line(at);
                    continue;
                }
                levels.deepen();
                break;
            case '/':
                if (next == '*') {
                    at = skip.comment(at);
                    continue;
                }
                levels.deepen();
                break;
            case ':':
                levels.deepen();
                at += next == ':' ? 1 : 0;
                break;
            case '+':
            case '*':
            case '<':
            case '>':
            case '=':
            case '~':
            case '!':
            case '@':
            case '#':
            case '%':
            case '^':
            case '&':
            case '|':
            case '`':
            case '?':
                levels.deepen();
                break;
            default:
                break;  // white space, dots; a byte the scanner refuses
        }
        ++at;
    }
    return skip.rescanned() > max_rescanned ? sql.size() : levels.finish();
}

bool with_stack_for(std::string_view sql, const std::function<void()>& work) {
    // A level costs at least one byte, so short queries need no look.
    const std::size_t bound = sql.size() <= nesting_in_place ? 0 : nesting_bound(sql);
    if (bound <= nesting_in_place) {
        work();
        return true;
    }
    if (bound > max_nesting) {
        return false;
    }
    // Only the pages touched are ever committed; such queries are rare and their parses cached.
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    pthread_t thread{};
    auto* run = +[](void* argument) -> void* {
        (*static_cast<const std::function<void()>*>(argument))();
        return nullptr;
    };
    std::function<void()> copy = work;
    const bool started = pthread_attr_setstacksize(&attributes, deep_stack_bytes) == 0 &&
                         pthread_create(&thread, &attributes, run, &copy) == 0;
    pthread_attr_destroy(&attributes);
    return started && pthread_join(thread, nullptr) == 0;
}

}  // namespace banyan::router
