// A fuzzer's bytes as decisions: numbers in a range, truth values, strings. What is behind the last
// byte is zero. Works without libFuzzer's own headers, so that the corpora run as ordinary tests
// too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace banyan::test {

class Input {
   public:
    Input(const std::uint8_t* data, std::size_t size)
        : rest_(reinterpret_cast<const char*>(data), size) {}

    std::size_t left() const { return rest_.size(); }
    std::uint8_t byte() {
        if (rest_.empty()) {
            return 0;
        }
        const auto value = static_cast<std::uint8_t>(rest_.front());
        rest_.remove_prefix(1);
        return value;
    }
    bool yes() { return (byte() & 1U) != 0; }
    /// Uniform in [0, most], most below 65,536.
    std::size_t number(std::size_t most) {
        std::size_t value = byte();
        if (most > 255) {
            value = (value << 8U) | byte();
        }
        return value % (most + 1);
    }
    /// At most `most` bytes: a length, then the bytes.
    std::string text(std::size_t most) {
        const auto size = number(most);
        const std::string value(rest_.substr(0, size));
        rest_.remove_prefix(value.size());
        return value;
    }
    std::string_view rest() const { return rest_; }

   private:
    std::string_view rest_;
};

}  // namespace banyan::test
