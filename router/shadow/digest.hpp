// The digest of a result as it streams: one XXH3 per row, chained when the query orders its rows,
// summed as a multiset otherwise. O(1) memory.
#pragma once

#include <cstdint>
#include <string_view>

namespace banyan::router {

class Digest {
   public:
    /// One DataRow's body, without the message header.
    void add_row(std::string_view body);
    std::uint64_t rows() const { return rows_; }

    enum class Verdict : std::uint8_t { equal, order_differs, rows_differ, count_differs };
    /// `ordered`: the order of rows is part of the answer.
    static Verdict compare(const Digest& primary, const Digest& mirror, bool ordered);

   private:
    std::uint64_t rows_ = 0;
    std::uint64_t sum_low_ = 0;
    std::uint64_t sum_high_ = 0;
    std::uint64_t chain_ = 0;
};

}  // namespace banyan::router
