// How long one session still waits for a mirror that is not well. A commit's time in all, from one
// prompt answer to the next: a mirror whose every answer is late would otherwise cost that time over
// and over. Pure.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace banyan::router {

class MirrorPatience {
   public:
    using Milliseconds = std::chrono::milliseconds;

    /// An answer within a quarter of the longest wait is prompt.
    static Milliseconds prompt(Milliseconds longest) {
        return std::max(longest / 4, Milliseconds(1));
    }
    /// The next wait's limit: what is left, but enough for a prompt answer.
    Milliseconds left(Milliseconds longest) const {
        return std::max(longest - spent_, prompt(longest));
    }
    /// Nothing was spent yet: a wait that runs out has lasted the whole time.
    bool whole() const { return spent_ == Milliseconds(0); }

    void answered(Milliseconds took, Milliseconds longest) {
        spent_ = took <= prompt(longest) ? Milliseconds(0) : spent_ + took;
    }
    void in_vain(Milliseconds took) { spent_ += took; }
    /// `incident`: how often the breaker has opened. With the next one patience is whole again.
    void notice(std::uint64_t incident) {
        if (incident != incident_) {
            incident_ = incident;
            spent_ = Milliseconds(0);
        }
    }

   private:
    Milliseconds spent_{0};
    std::uint64_t incident_ = 0;
};

}  // namespace banyan::router
