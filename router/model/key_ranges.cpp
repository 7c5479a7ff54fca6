#include "router/model/key_ranges.hpp"

#include <algorithm>
#include <boost/endian/conversion.hpp>
#include <cstring>
#include <limits>

namespace banyan::router {
namespace {

// Longer bounds would make ranges cost more than they save.
constexpr std::size_t most_bound_bytes = 256;

struct Form {
    std::size_t size = 0;  ///< in bytes; 0: any
    bool is_signed = false;
};

// OIDs of built-in types (pg_type.dat). Their order is that of their default btree class.
std::optional<Form> form_of(std::uint32_t type) {
    switch (type) {
        case 16:  // boolean
            return Form{1, false};
        case 17:  // bytea: memcmp, then the shorter first (byteacmp)
            return Form{0, false};
        case 20:  // bigint
            return Form{8, true};
        case 21:  // smallint
            return Form{2, true};
        case 23:  // integer
            return Form{4, true};
        case 26:  // oid
            return Form{4, false};
        case 1082:  // date: days, infinities are the ends (DATEVAL_NOBEGIN, DATEVAL_NOEND)
            return Form{4, true};
        case 1114:  // timestamp: microseconds, likewise
        case 1184:  // timestamp with time zone
            return Form{8, true};
        case 2950:  // uuid: memcmp
            return Form{16, false};
        default:
            return std::nullopt;
    }
}

bool fits(const Form& form, std::string_view value) {
    return form.size == 0 ? value.size() <= most_bound_bytes : value.size() == form.size;
}

// Its own inverse.
std::string flip(const Form& form, std::string_view value) {
    std::string flipped(value);
    if (form.is_signed && !flipped.empty()) {
        flipped[0] = static_cast<char>(static_cast<unsigned char>(flipped[0]) ^ 0x80U);
    }
    return flipped;
}

std::optional<std::string> ordered(std::uint32_t type, std::string_view key) {
    const auto form = form_of(type);
    // Only the leading column is looked at: Int32 length, then its value (RowKey).
    if (!form || key.size() < 4) {
        return std::nullopt;
    }
    std::size_t size = 0;
    for (const char c : key.substr(0, 4)) {
        size = (size << 8U) | static_cast<unsigned char>(c);
    }
    key.remove_prefix(4);
    if (size > key.size() || !fits(*form, key.substr(0, size))) {
        return std::nullopt;
    }
    return flip(*form, key.substr(0, size));
}

// Up to eight bytes from `skip` on as a number, for the distance of two bounds.
std::uint64_t number(std::string_view bound, std::size_t skip, std::size_t size) {
    std::uint64_t value = 0;
    if (skip < bound.size()) {
        std::memcpy(&value, bound.data() + skip, std::min(size, bound.size() - skip));
    }
    return boost::endian::big_to_native(value) >> (64U - 8U * size);
}

}  // namespace

KeyRanges KeyRanges::none(std::uint32_t type) {
    KeyRanges made;
    made.type_ = form_of(type) ? type : 0;
    return made;
}

std::optional<KeyRanges> KeyRanges::from(std::uint32_t type, std::vector<Range> ranges) {
    const auto form = form_of(type);
    if (!form || ranges.size() > most) {
        return std::nullopt;
    }
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        const Range& range = ranges[i];
        if (!fits(*form, range.low) || !fits(*form, range.high) || range.high < range.low ||
            (i > 0 && range.low <= ranges[i - 1].high)) {
            return std::nullopt;
        }
    }
    KeyRanges made;
    made.type_ = type;
    made.ranges_ = std::move(ranges);
    return made;
}

std::size_t KeyRanges::bytes() const {
    std::size_t bytes = sizeof(KeyRanges) + ranges_.capacity() * sizeof(Range);
    for (const Range& range : ranges_) {
        bytes += range.low.size() + range.high.size();
    }
    return bytes;
}

void KeyRanges::add(std::string_view key) {
    if (all()) {
        return;
    }
    auto bound = ordered(type_, key);
    if (!bound) {
        *this = {};
        return;
    }
    const auto at =
        std::lower_bound(ranges_.begin(), ranges_.end(), *bound,
                         [](const Range& range, const std::string& b) { return range.high < b; });
    if (at == ranges_.end() || *bound < at->low) {
        add(Range{*bound, *bound});
    }
}

void KeyRanges::add(const KeyRanges& other) {
    if (all()) {
        return;
    }
    if (other.type_ != type_) {
        *this = {};
        return;
    }
    for (const Range& range : other.ranges_) {
        add(range);
    }
}

bool KeyRanges::contains(std::string_view key) const {
    const auto bound = all() ? std::nullopt : ordered(type_, key);
    return !bound || std::any_of(ranges_.begin(), ranges_.end(), [&](const Range& range) {
        return range.low <= *bound && *bound <= range.high;
    });
}

std::string KeyRanges::binary(std::string_view bound) const {
    const auto form = form_of(type_);
    return form ? flip(*form, bound) : std::string(bound);
}

void KeyRanges::add(Range range) {
    const auto form = form_of(type_).value_or(Form{});
    // Of whole numbers, neighbours leave nothing between them.
    const bool whole = form.size != 0 && form.size <= 8;
    const auto touch = [&](const Range& before, const Range& after) {
        return after.low <= before.high ||
               (whole && number(after.low, 0, form.size) - number(before.high, 0, form.size) == 1);
    };
    auto first = std::lower_bound(ranges_.begin(), ranges_.end(), range.low,
                                  [](const Range& r, const std::string& b) { return r.high < b; });
    if (first != ranges_.begin() && touch(*std::prev(first), range)) {
        --first;
    }
    auto last = first;
    while (last != ranges_.end() && touch(range, *last)) {
        range.low = std::min(range.low, last->low);
        range.high = std::max(range.high, last->high);
        ++last;
    }
    if (first != last) {
        *first = std::move(range);
        ranges_.erase(std::next(first), last);
    } else {
        ranges_.insert(first, std::move(range));
    }
    if (ranges_.size() > most) {
        merge_nearest();
    }
}

void KeyRanges::merge_nearest() {
    const auto form = form_of(type_).value_or(Form{});
    const bool whole = form.size != 0 && form.size <= 8;
    const std::string& lowest = ranges_.front().low;
    const std::string& highest = ranges_.back().high;
    // What the outermost share, all between them share.
    const std::size_t skip =
        whole ? 0
              : static_cast<std::size_t>(
                    std::mismatch(lowest.begin(), lowest.end(), highest.begin(), highest.end())
                        .first -
                    lowest.begin());
    const std::size_t size = whole ? form.size : 8;
    std::size_t nearest = 1;
    std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
    for (std::size_t i = 1; i < ranges_.size(); ++i) {
        const std::uint64_t gap =
            number(ranges_[i].low, skip, size) - number(ranges_[i - 1].high, skip, size);
        if (gap < least) {
            least = gap;
            nearest = i;
        }
    }
    ranges_[nearest - 1].high = std::move(ranges_[nearest].high);
    ranges_.erase(ranges_.begin() + static_cast<std::ptrdiff_t>(nearest));
}

}  // namespace banyan::router
