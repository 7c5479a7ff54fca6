#include "router/shadow/statement_times.hpp"

#include <algorithm>

namespace banyan::router {
namespace {

using std::chrono::microseconds;

constexpr double until_no_longer = 0.75;

microseconds median(std::vector<microseconds> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

bool takes_longer(const StatementTime& time, const SlowerBounds& bounds) {
    const double factor = time.slower ? std::max(1.0, bounds.factor * until_no_longer) : bounds.factor;
    const microseconds by = time.slower ? bounds.by / 2 : bounds.by;
    return static_cast<double>(time.target.count()) >
               factor * static_cast<double>(time.source.count()) &&
           time.target - time.source >= by;
}

double ratio(const StatementTime& time) {
    return static_cast<double>(time.target.count()) /
           static_cast<double>(std::max<microseconds::rep>(1, time.source.count()));
}

}  // namespace

StatementTimes::Added StatementTimes::add(const std::string& fingerprint, const std::string& sql,
                                          microseconds source, microseconds target,
                                          const SlowerBounds& bounds) {
    Statement& statement = statements_[fingerprint];
    statement.last = ++runs_;
    statement.runs.emplace_back(source, target);
    if (statement.runs.size() > kept) {
        statement.runs.pop_front();
    }
    StatementTime& time = statement.time;
    time.fingerprint = fingerprint;
    time.sql = sql;
    ++time.runs;
    std::vector<microseconds> here;
    std::vector<microseconds> there;
    for (const auto& [one, other] : statement.runs) {
        here.push_back(one);
        there.push_back(other);
    }
    time.source = median(std::move(here));
    time.target = median(std::move(there));
    Added added;
    if (statement.runs.size() >= enough) {
        const bool slower = takes_longer(time, bounds);
        added.turned = slower != time.slower || !statement.judged;
        added.judged = statement.judged = true;
        time.slower = slower;
    }
    added.now = time;
    if (statements_.size() > max_statements_) {
        forget_oldest();
    }
    return added;
}

void StatementTimes::forget_oldest() {
    statements_.erase(
        std::min_element(statements_.begin(), statements_.end(), [](const auto& a, const auto& b) {
            return a.second.last < b.second.last;
        }));
}

std::vector<StatementTime> StatementTimes::rows(std::size_t limit) const {
    std::vector<StatementTime> rows;
    for (const auto& [fingerprint, statement] : statements_) {
        rows.push_back(statement.time);
    }
    std::sort(rows.begin(), rows.end(), [](const StatementTime& a, const StatementTime& b) {
        return a.slower != b.slower ? a.slower : ratio(a) > ratio(b);
    });
    rows.resize(std::min(rows.size(), limit));
    return rows;
}

std::size_t StatementTimes::slower() const {
    return static_cast<std::size_t>(
        std::count_if(statements_.begin(), statements_.end(),
                      [](const auto& each) { return each.second.time.slower; }));
}

}  // namespace banyan::router
