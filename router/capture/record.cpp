#include "router/capture/record.hpp"

#include <algorithm>

namespace banyan::router {
namespace {

constexpr std::int32_t null_length = -1;

class Reader {
   public:
    explicit Reader(std::string_view bytes) : rest_(bytes) {}

    bool number(std::uint32_t& value) {
        if (rest_.size() < 4) {
            return false;
        }
        value = 0;
        for (int i = 0; i < 4; ++i) {
            value = (value << 8U) | static_cast<unsigned char>(rest_[static_cast<std::size_t>(i)]);
        }
        rest_.remove_prefix(4);
        return true;
    }
    bool bytes(std::size_t count, std::string_view& value) {
        if (rest_.size() < count) {
            return false;
        }
        value = rest_.substr(0, count);
        rest_.remove_prefix(count);
        return true;
    }
    bool at_end() const { return rest_.empty(); }

   private:
    std::string_view rest_;
};

}  // namespace

bool decode_record(std::string_view bytes, CapturedRecord& record) {
    record.types.clear();
    record.values.clear();
    Reader reader(bytes);
    std::uint32_t count = 0;
    if (!reader.number(count)) {
        return false;
    }
    for (std::uint32_t i = 0; i < count; ++i) {
        std::uint32_t type = 0;
        std::uint32_t length = 0;
        if (!reader.number(type) || !reader.number(length)) {
            return false;
        }
        record.types.push_back(type);
        const auto size = static_cast<std::int32_t>(length);
        if (size == null_length) {
            record.values.emplace_back(std::nullopt);
            continue;
        }
        std::string_view value;
        if (size < 0 || !reader.bytes(static_cast<std::size_t>(size), value)) {
            return false;
        }
        record.values.emplace_back(value);
    }
    return reader.at_end();
}

bool fits(const CapturedRecord& record, const Table& table) {
    return std::equal(record.types.begin(), record.types.end(), table.columns.begin(),
                      table.columns.end(),
                      [](Oid type, const Column& column) { return type == column.type; });
}

}  // namespace banyan::router
