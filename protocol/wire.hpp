// The wire's primitives: big-endian integers, terminated strings, and message frames.
// Pure: reads from views, appends to strings, never allocates from a length it has not seen.
// Mirrors the PostgreSQL manual, "Message Data Types" and "Message Formats".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace banyan::protocol {

inline void put_int16(std::string& out, std::uint16_t value) {
    out.push_back(static_cast<char>(value >> 8U));
    out.push_back(static_cast<char>(value));
}

inline void put_int32(std::string& out, std::uint32_t value) {
    out.push_back(static_cast<char>(value >> 24U));
    out.push_back(static_cast<char>(value >> 16U));
    out.push_back(static_cast<char>(value >> 8U));
    out.push_back(static_cast<char>(value));
}

inline void put_string(std::string& out, std::string_view value) {
    out.append(value);
    out.push_back('\0');
}

inline std::uint32_t get_int32(const char* at) {
    const auto byte = [at](int i) { return std::uint32_t{static_cast<unsigned char>(at[i])}; };
    return (byte(0) << 24U) | (byte(1) << 16U) | (byte(2) << 8U) | byte(3);
}

inline std::uint16_t get_int16(const char* at) {
    return static_cast<std::uint16_t>((static_cast<unsigned char>(at[0]) << 8U) |
                                      static_cast<unsigned char>(at[1]));
}

/// Reads fields from a message body. After a short or malformed read ok() is false for good and
/// every further read yields zero or an empty view.
class Reader {
   public:
    explicit Reader(std::string_view body) : rest_(body) {}

    std::uint8_t byte() {
        if (!need(1)) {
            return 0;
        }
        const auto value = static_cast<std::uint8_t>(rest_[0]);
        rest_.remove_prefix(1);
        return value;
    }
    std::uint16_t int16() {
        if (!need(2)) {
            return 0;
        }
        const auto value = get_int16(rest_.data());
        rest_.remove_prefix(2);
        return value;
    }
    std::uint32_t int32() {
        if (!need(4)) {
            return 0;
        }
        const auto value = get_int32(rest_.data());
        rest_.remove_prefix(4);
        return value;
    }
    std::string_view bytes(std::size_t count) {
        if (!need(count)) {
            return {};
        }
        const auto value = rest_.substr(0, count);
        rest_.remove_prefix(count);
        return value;
    }
    /// Up to the terminating zero byte, which is consumed.
    std::string_view string() {
        const auto end = rest_.find('\0');
        if (!ok_ || end == std::string_view::npos) {
            ok_ = false;
            return {};
        }
        const auto value = rest_.substr(0, end);
        rest_.remove_prefix(end + 1);
        return value;
    }
    /// A length-prefixed value: -1 is NULL (nullopt); any other negative length is malformed.
    std::optional<std::string_view> value() {
        const auto size = int32();
        if (!ok_ || size == 0xFFFFFFFFU) {
            return std::nullopt;
        }
        if (size > rest_.size()) {
            ok_ = false;
            return std::nullopt;
        }
        return bytes(size);
    }

    bool ok() const { return ok_; }
    /// Everything was read and nothing was wrong.
    bool done() const { return ok_ && rest_.empty(); }
    std::string_view rest() const { return rest_; }

   private:
    bool need(std::size_t count) {
        if (!ok_ || rest_.size() < count) {
            ok_ = false;
            return false;
        }
        return true;
    }

    std::string_view rest_;
    bool ok_ = true;
};

/// Appends one typed message: the constructor writes type and room for the length, the destructor
/// fills the length in.
class Message {
   public:
    Message(std::string& out, char type) : out_(out) {
        out_.push_back(type);
        start_ = out_.size();
        out_.append(4, '\0');
    }
    ~Message() {
        const auto size = static_cast<std::uint32_t>(out_.size() - start_);
        for (std::size_t i = 0; i < 4; ++i) {
            out_[start_ + i] = static_cast<char>(size >> (24U - 8U * i));
        }
    }
    Message(const Message&) = delete;
    Message& operator=(const Message&) = delete;

    Message& int16(std::uint16_t value) { put_int16(out_, value); return *this; }
    Message& int32(std::uint32_t value) { put_int32(out_, value); return *this; }
    Message& string(std::string_view value) { put_string(out_, value); return *this; }
    Message& bytes(std::string_view value) { out_.append(value); return *this; }
    Message& byte(char value) { out_.push_back(value); return *this; }

   private:
    std::string& out_;
    std::size_t start_ = 0;
};

/// A typed message's header: Byte1 type, Int32 length (itself included).
struct Header {
    char type = 0;
    std::uint32_t body_size = 0;  ///< without header
};

inline constexpr std::size_t header_size = 5;

/// Reads a header from at least header_size bytes. nullopt if the length is below 4 or the body
/// exceeds `limit` bytes: the stream cannot be trusted any more.
inline std::optional<Header> read_header(const char* at, std::uint64_t limit) {
    const auto length = get_int32(at + 1);
    if (length < 4 || length - 4 > limit) {
        return std::nullopt;
    }
    return Header{at[0], length - 4};
}

}  // namespace banyan::protocol
