#include "router/model/types.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace banyan::router {
namespace {

constexpr std::array<std::string_view, 5> phase_names = {"INITIAL", "DUAL_WRITE", "DUAL_READ",
                                                         "SWITCHOVER", "COMPLETE"};

}  // namespace

std::string_view to_string(Phase phase) { return phase_names.at(static_cast<std::size_t>(phase)); }

std::optional<Phase> phase_from_string(std::string_view text) {
    std::string upper(text);
    std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) {
        return c == '-' ? '_' : static_cast<char>(std::toupper(c));
    });
    for (std::size_t i = 0; i < phase_names.size(); ++i) {
        if (phase_names.at(i) == upper) {
            return static_cast<Phase>(i);
        }
    }
    return std::nullopt;
}

std::string_view to_string(Side side) { return side == Side::source ? "source" : "target"; }

void append_key_column(std::string& bytes, std::string_view value) {
    const auto size = static_cast<std::uint32_t>(value.size());
    bytes.push_back(static_cast<char>(size >> 24U));
    bytes.push_back(static_cast<char>(size >> 16U));
    bytes.push_back(static_cast<char>(size >> 8U));
    bytes.push_back(static_cast<char>(size));
    bytes.append(value);
}

std::vector<std::string_view> split_key(std::string_view bytes) {
    std::vector<std::string_view> columns;
    while (!bytes.empty()) {
        if (bytes.size() < 4) {
            return {};
        }
        std::uint32_t size = 0;
        for (std::size_t i = 0; i < 4; ++i) {
            size = (size << 8U) | static_cast<unsigned char>(bytes[i]);
        }
        bytes.remove_prefix(4);
        if (size > bytes.size()) {
            return {};
        }
        columns.push_back(bytes.substr(0, size));
        bytes.remove_prefix(size);
    }
    return columns;
}

std::string keys_of(const AdvisoryLock& lock) {
    if (!lock.two_keys) {
        return std::to_string(static_cast<std::int64_t>(lock.key));
    }
    return std::to_string(static_cast<std::int32_t>(lock.key >> 32U)) + ", " +
           std::to_string(static_cast<std::int32_t>(lock.key & 0xFFFFFFFFU));
}

std::string to_string(const AdvisoryLock& lock) {
    return "advisory lock " + (lock.two_keys ? "(" + keys_of(lock) + ")" : keys_of(lock)) +
           (lock.shared ? ", shared" : "");
}

}  // namespace banyan::router
