#include "router/shadow/digest.hpp"

#include <xxhash.h>

namespace banyan::router {

void Digest::add_row(std::string_view body) {
    const XXH128_hash_t hash = XXH3_128bits(body.data(), body.size());
    ++rows_;
    sum_low_ += hash.low64;
    sum_high_ += hash.high64;
    const std::uint64_t link[2] = {chain_, hash.low64 ^ hash.high64};
    chain_ = XXH3_64bits(static_cast<const void*>(link), sizeof link);
}

Digest::Verdict Digest::compare(const Digest& primary, const Digest& mirror, bool ordered) {
    if (primary.rows_ != mirror.rows_) {
        return Verdict::count_differs;
    }
    if (primary.sum_low_ != mirror.sum_low_ || primary.sum_high_ != mirror.sum_high_) {
        return Verdict::rows_differ;
    }
    return ordered && primary.chain_ != mirror.chain_ ? Verdict::order_differs : Verdict::equal;
}

}  // namespace banyan::router
