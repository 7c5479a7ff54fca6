#include "router/session/custom_settings.hpp"

#include <array>

namespace banyan::router {
namespace {

constexpr std::size_t longest_text = 4096;
constexpr std::size_t most_names = 100;

char lower(char letter) {
    return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
}

bool of_word(char letter) {
    const char small = lower(letter);
    return (small >= 'a' && small <= 'z') || (small >= '0' && small <= '9') || small == '_';
}

bool ends_in(std::string_view text, std::string_view word) {
    if (text.size() < word.size()) {
        return false;
    }
    const auto tail = text.substr(text.size() - word.size());
    for (std::size_t i = 0; i < word.size(); ++i) {
        if (lower(tail[i]) != word[i]) {
            return false;
        }
    }
    return text.size() == word.size() || !of_word(text[text.size() - word.size() - 1]);
}

bool names_a_setting(std::string_view before) {
    if (ends_in(before, "set_config('")) {
        return true;
    }
    const auto end = before.find_last_not_of(" \t\r\n");
    if (end == std::string_view::npos || end + 1 == before.size()) {
        return false;
    }
    before = before.substr(0, end + 1);
    return ends_in(before, "set") || ends_in(before, "session") || ends_in(before, "local");
}

}  // namespace

void note_custom_settings(std::string_view text, std::set<std::string, std::less<>>& names) {
    text = text.substr(0, longest_text);
    for (auto dot = text.find('.'); dot != std::string_view::npos; dot = text.find('.', dot + 1)) {
        std::size_t begin = dot;
        while (begin > 0 && of_word(text[begin - 1])) {
            --begin;
        }
        std::size_t end = dot + 1;
        while (end < text.size() && (of_word(text[end]) || text[end] == '.')) {
            ++end;
        }
        const bool named = begin < dot && dot + 1 < end && names_a_setting(text.substr(0, begin));
        if (named && names.size() < most_names) {
            names.emplace(text.substr(begin, end - begin));
        }
    }
}

}  // namespace banyan::router
