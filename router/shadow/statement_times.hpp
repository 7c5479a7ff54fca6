// How long statements take on each side, by fingerprint, from their last runs on both. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace banyan::router {

/// One statement and its time on both sides.
struct StatementTime {
    std::string fingerprint;
    std::string sql;  ///< normalized
    std::size_t runs = 0;  ///< the median is over the last StatementTimes::kept of them
    std::chrono::microseconds source{0};  ///< median
    std::chrono::microseconds target{0};  ///< median
    /// There were enough runs to say so, and the target takes longer by SlowerBounds.
    bool slower = false;
};

/// When the target counts as slower: by that factor, and by that much. What has been slower stays it
/// until its factor is a quarter below that.
struct SlowerBounds {
    double factor = 3;
    std::chrono::microseconds by{5000};
};

class StatementTimes {
   public:
    static constexpr std::size_t kept = 32;
    static constexpr std::size_t enough = 20;

    /// Of more statements, the one that ran longest ago is forgotten.
    explicit StatementTimes(std::size_t max_statements = 1000) : max_statements_(max_statements) {}

    struct Added {
        StatementTime now;
        bool judged = false;  ///< there are enough runs
        bool turned = false;  ///< `slower` has changed, or could be told for the first time
    };
    Added add(const std::string& fingerprint, const std::string& sql,
              std::chrono::microseconds source, std::chrono::microseconds target,
              const SlowerBounds& bounds);
    /// Those that are slower on the target first, then by how many times the source's time it takes.
    std::vector<StatementTime> rows(std::size_t limit) const;
    std::size_t statements() const { return statements_.size(); }
    std::size_t slower() const;

   private:
    struct Statement {
        StatementTime time;
        std::deque<std::pair<std::chrono::microseconds, std::chrono::microseconds>> runs;
        std::uint64_t last = 0;  ///< number of its last run
        bool judged = false;
    };

    void forget_oldest();

    const std::size_t max_statements_;
    std::map<std::string, Statement, std::less<>> statements_;
    std::uint64_t runs_ = 0;
};

}  // namespace banyan::router
