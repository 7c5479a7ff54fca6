#include "router/state/journal_entry.hpp"

#include <utility>

namespace banyan::router {
namespace {

constexpr char entry_version = 3;
constexpr char version_without_ranges = 2;
constexpr char version_without_tables = 1;
constexpr unsigned removes_flag = 1;
constexpr unsigned dirty_flag = 2;
constexpr unsigned by_row_flag = 2;  // of a table

void put_number(std::string& out, std::size_t value) {
    for (const unsigned shift : {24U, 16U, 8U, 0U}) {
        out.push_back(static_cast<char>((value >> shift) & 0xFFU));
    }
}

void put_text(std::string& out, std::string_view text) {
    put_number(out, text.size());
    out.append(text);
}

// Reads past the end yield zeros and turn `damaged` on.
class Reader {
   public:
    explicit Reader(std::string_view bytes) : bytes_(bytes) {}

    std::uint32_t byte() {
        const std::string_view taken = take(1);
        return taken.empty() ? 0 : static_cast<unsigned char>(taken.front());
    }
    std::uint32_t number() {
        std::uint32_t value = 0;
        for (const char c : take(4)) {
            value = (value << 8U) | static_cast<unsigned char>(c);
        }
        return value;
    }
    std::string text() {
        const std::uint32_t size = number();
        return std::string(take(size));
    }
    KeyRanges ranges() {
        const std::uint32_t size = number();
        auto ranges = decode_key_ranges(take(size));
        damaged_ = damaged_ || !ranges;
        return ranges.value_or(KeyRanges());
    }
    bool damaged() const { return damaged_; }
    bool at_end() const { return bytes_.empty(); }

   private:
    std::string_view take(std::size_t size) {
        if (size > bytes_.size()) {
            damaged_ = true;
            bytes_ = {};
            return {};
        }
        const std::string_view taken = bytes_.substr(0, size);
        bytes_.remove_prefix(size);
        return taken;
    }

    std::string_view bytes_;
    bool damaged_ = false;
};

}  // namespace

std::string encode_journal_entry(const CommitIntent& intent) {
    std::string out;
    std::size_t size = 13;
    for (const KeyWrite& write : intent.writes) {
        size += 9 + write.key.bytes.size();
    }
    for (const SuspectMark& mark : intent.suspects) {
        size += 12 + mark.reason.size() + mark.rows.bytes();
    }
    for (const TableWrite& write : intent.tables) {
        size += 13 + write.reason.size() + write.rows.bytes();
    }
    out.reserve(size);
    out.push_back(entry_version);
    put_number(out, intent.writes.size());
    for (const KeyWrite& write : intent.writes) {
        out.push_back(static_cast<char>((write.removes ? removes_flag : 0U) |
                                        (write.dirty ? dirty_flag : 0U)));
        put_number(out, write.key.table);
        put_text(out, write.key.bytes);
    }
    put_number(out, intent.suspects.size());
    for (const SuspectMark& mark : intent.suspects) {
        put_number(out, mark.table);
        put_text(out, mark.reason);
        put_text(out, encode_key_ranges(mark.rows));
    }
    put_number(out, intent.tables.size());
    for (const TableWrite& write : intent.tables) {
        out.push_back(static_cast<char>((write.removes ? removes_flag : 0U) |
                                        (write.by_row ? by_row_flag : 0U)));
        put_number(out, write.table);
        put_text(out, write.reason);
        put_text(out, encode_key_ranges(write.rows));
    }
    return out;
}

Result<CommitIntent> decode_journal_entry(std::string_view bytes) {
    Reader reader(bytes);
    const std::uint32_t version = reader.byte();
    if (version < version_without_tables || version > entry_version) {
        return Error{"journal entry of unknown version " + std::to_string(version), ""};
    }
    CommitIntent intent;
    const std::uint32_t writes = reader.number();
    for (std::uint32_t i = 0; i < writes && !reader.damaged(); ++i) {
        KeyWrite write;
        const std::uint32_t flags = reader.byte();
        write.removes = (flags & removes_flag) != 0;
        write.dirty = (flags & dirty_flag) != 0;
        write.key.table = reader.number();
        write.key.bytes = reader.text();
        intent.writes.push_back(std::move(write));
    }
    const std::uint32_t suspects = reader.number();
    for (std::uint32_t i = 0; i < suspects && !reader.damaged(); ++i) {
        SuspectMark mark;
        mark.table = reader.number();
        mark.reason = reader.text();
        mark.rows = version > version_without_ranges ? reader.ranges() : KeyRanges();
        intent.suspects.push_back(std::move(mark));
    }
    const std::uint32_t tables = version == version_without_tables ? 0 : reader.number();
    for (std::uint32_t i = 0; i < tables && !reader.damaged(); ++i) {
        TableWrite write;
        const std::uint32_t flags = reader.byte();
        write.removes = (flags & removes_flag) != 0;
        write.by_row = (flags & by_row_flag) != 0;
        write.table = reader.number();
        write.reason = reader.text();
        write.rows = version > version_without_ranges ? reader.ranges() : KeyRanges();
        intent.tables.push_back(std::move(write));
    }
    if (reader.damaged() || !reader.at_end()) {
        return Error{"damaged journal entry", ""};
    }
    return intent;
}

std::string encode_key_ranges(const KeyRanges& ranges) {
    std::string out;
    if (ranges.all()) {
        return out;
    }
    put_number(out, ranges.type());
    put_number(out, ranges.ranges().size());
    for (const KeyRanges::Range& range : ranges.ranges()) {
        put_text(out, range.low);
        put_text(out, range.high);
    }
    return out;
}

std::optional<KeyRanges> decode_key_ranges(std::string_view bytes) {
    if (bytes.empty()) {
        return KeyRanges();
    }
    Reader reader(bytes);
    const std::uint32_t type = reader.number();
    const std::uint32_t count = reader.number();
    std::vector<KeyRanges::Range> ranges;
    for (std::uint32_t i = 0; i < count && !reader.damaged(); ++i) {
        std::string low = reader.text();
        ranges.push_back({std::move(low), reader.text()});
    }
    if (reader.damaged() || !reader.at_end()) {
        return std::nullopt;
    }
    return KeyRanges::from(type, std::move(ranges));
}

}  // namespace banyan::router
