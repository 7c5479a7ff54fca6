// Which rows of a table something is about: all of them, or those whose leading key column lies in
// one of a few ranges. So a transaction of a million rows, or a million dirty keys, can be kept in
// some hundred bytes without giving up the rest of the table. Pure values.
//
// Bounds are in an *ordered form*: bytes that compare as PostgreSQL compares the values. A type is
// admitted if its binary form is one after at most a flipped sign bit: boolean, smallint, integer,
// bigint, oid, date, timestamp with and without time zone (whose infinities are their integers'
// ends), uuid, bytea. For any other the only range is the whole table.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace banyan::router {

class KeyRanges {
   public:
    /// Beyond it the two that are nearest to one another become one.
    static constexpr std::size_t most = 64;

    struct Range {
        std::string low;  ///< both ends are included, in ordered form
        std::string high;

        friend bool operator==(const Range&, const Range&) = default;
    };

    /// Every row.
    KeyRanges() = default;
    /// No row yet, of a table whose leading key column has this type (an OID); every row if the
    /// type has no ordered form.
    static KeyRanges none(std::uint32_t type);
    /// nullopt if these cannot be ranges of that type, in order and apart.
    static std::optional<KeyRanges> from(std::uint32_t type, std::vector<Range> ranges);

    bool all() const { return type_ == 0; }
    /// Of the leading key column; 0 with all().
    std::uint32_t type() const { return type_; }
    const std::vector<Range>& ranges() const { return ranges_; }
    /// Heap and all, roughly.
    std::size_t bytes() const;

    /// The row of this key (RowKey::bytes). One that is not of the type makes it every row.
    void add(std::string_view key);
    /// The rows of both; of different types: every row.
    void add(const KeyRanges& other);
    /// True as well for a key that is not of the type.
    bool contains(std::string_view key) const;
    /// A bound in PostgreSQL's binary form.
    std::string binary(std::string_view bound) const;

    friend bool operator==(const KeyRanges&, const KeyRanges&) = default;

   private:
    void add(Range range);
    void merge_nearest();

    std::uint32_t type_ = 0;
    std::vector<Range> ranges_;
};

}  // namespace banyan::router
