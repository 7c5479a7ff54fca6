#include "router/sync/verify.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "router/sync/recheck.hpp"
#include "router/sync/table_sql.hpp"
#include "router/sync/verify_session.hpp"

namespace banyan::router {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t max_sample = 100;
constexpr std::uint32_t max_reconnects = 5;
constexpr std::uint32_t whole_table_attempts = 6;
constexpr std::chrono::milliseconds range_time{200};
constexpr std::chrono::milliseconds in_flight_timeout{2000};

std::int64_t unix_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

std::string_view to_string(Verdict verdict) {
    switch (verdict) {
        case Verdict::equal:
            return "equal";
        case Verdict::missing:
            return "missing";
        case Verdict::extra:
            return "extra";
        case Verdict::different:
            return "different";
        case Verdict::undecided:
            return "undecided";
    }
    return "";
}

class TableVerifier {
   public:
    TableVerifier(const VerifyContext& context, const Table& table, bool repair,
                  const std::function<void(const TableVerification&)>& progress,
                  const std::atomic<bool>& cancel, const KeyRanges& rows)
        : context_(context), table_(table), image_(table.on_mirror()), repair_(repair), progress_(progress), cancel_(cancel), rows_(rows),
          primary_side_(primary_of(context.phase())) {}

    TableVerification run() {
        result_.table = table_.id;
        result_.name = table_.display_name();
        result_.state = "running";
        result_.started_unix_ms = unix_ms();
        auto finished = verify();
        if (!finished) {
            result_.state = "failed";
            result_.error = std::move(finished).error().message;
        } else if (cancel_) {
            result_.state = "stopped";
        } else if (result_.missing + result_.extra + result_.different != 0) {
            result_.state = "different";
        } else {
            result_.state = undecided_ != 0 ? "inconclusive" : "equal";
        }
        result_.finished_unix_ms = unix_ms();
        report();
        return std::move(result_);
    }

   private:
    Result<void> verify();
    Result<void> estimate();
    Result<std::vector<std::string>> scopes();
    Result<void> compare_ranges();
    std::string upper_key_query(const KeyText& low) const;
    static KeyText upper_key_of(const Rows& rows);
    Result<KeyText> upper_key(const KeyText& low);
    Result<void> compare_and_look_ahead(const KeyText& low, const KeyText& high,
                                        std::optional<KeyText>& next);
    Result<void> compare_range(const KeyText& low, const KeyText& high);
    Result<std::vector<KeyText>> candidates(const KeyText& low, const KeyText& high);
    Result<void> judge(const std::vector<KeyText>& keys);
    Result<void> compare_whole();

    /// Ranges cover all keys wherever they are cut: rows joined from several tables are costly to count.
    bool cut_on_mirror() const { return table_.mapped() && table_.mapping->by_repair(); }
    bool phase_changed() const {
        const Phase phase = context_.phase();
        return !mirrors(phase) || primary_of(phase) != primary_side_;
    }
    Result<void> connect() {
        auto opened = VerifySession::open(context_.config, primary_side_);
        if (!opened) {
            return std::move(opened).error();
        }
        session_.emplace(std::move(*opened));
        return {};
    }
    // Keys in `low < key <= high` within the scope, as a WHERE clause.
    std::string where(const KeyText& low, const KeyText& high) const {
        const std::string range = key_range(image_, low, high);
        return scope_.empty() ? range : range + (range.empty() ? " WHERE " : " AND ") + scope_;
    }
    static std::string sum_query(const Table& image, const std::string& rows,
                                 const std::string& where) {
        return "SELECT pg_catalog.count(*), pg_catalog.sum(" + row_hash(image) + ") FROM " + rows +
               where;
    }
    void report() const {
        if (progress_) {
            progress_(result_);
        }
    }

    const VerifyContext& context_;
    const Table& table_;
    const Table& image_;
    const bool repair_;
    const std::function<void(const TableVerification&)>& progress_;
    const std::atomic<bool>& cancel_;
    const KeyRanges& rows_;
    const Side primary_side_;
    std::string scope_;  ///< the range being compared; empty: the whole table
    std::optional<VerifySession> session_;
    TableVerification result_;
    std::uint64_t undecided_ = 0;
    std::uint64_t range_rows_ = 5000;
};

Result<void> TableVerifier::verify() {
    const std::string& reason = table_.not_captured_because;
    if (reason == "not_on_mirror" || reason == "columns_differ" || reason == "bad_mapping") {
        return Error{reason + ": there is nothing to compare the table with", ""};
    }
    if (auto connected = connect(); !connected) {
        return connected;
    }
    if (auto estimated = estimate(); !estimated) {
        return estimated;
    }
    if (table_.key.empty()) {
        return compare_whole();
    }
    auto wanted = scopes();
    if (!wanted) {
        return std::move(wanted).error();
    }
    for (std::string& scope : *wanted) {
        scope_ = std::move(scope);
        if (auto compared = compare_ranges(); !compared) {
            return compared;
        }
    }
    return {};
}

// One condition for each range, an empty one for the whole table. The server itself turns the bounds
// into text, so every value of their type comes through.
Result<std::vector<std::string>> TableVerifier::scopes() {
    if (rows_.all() || rows_.type() != leading_key_type(table_)) {
        return std::vector<std::string>{""};
    }
    const std::string type = image_.columns[image_.key.front()].type_name;
    std::vector<std::string> scopes;
    for (const KeyRanges::Range& range : rows_.ranges()) {
        auto bounds = session_->primary.exec(
            "SELECT $1::" + type + ", $2::" + type,
            {Param::raw(rows_.binary(range.low)), Param::raw(rows_.binary(range.high))});
        if (!bounds) {
            return std::move(bounds).error();
        }
        scopes.push_back(key_between(image_, bounds->text(0, 0), bounds->text(0, 1)));
    }
    return scopes;
}

Result<void> TableVerifier::estimate() {
    auto rows = session_->primary.exec(
        "SELECT pg_catalog.sum(pg_catalog.float8larger(c.reltuples, 0))::pg_catalog.int8"
        " FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND (c.oid = $1 OR c.oid IN"
        " (SELECT relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass)))",
        {Param::number(table_.oid)});
    if (!rows) {
        return std::move(rows).error();
    }
    result_.rows_estimated = static_cast<std::uint64_t>(rows->number(0, 0));
    return {};
}

Result<void> TableVerifier::compare_ranges() {
    KeyText low;
    std::optional<KeyText> next;  // where the range ends, if that is known already
    std::uint32_t reconnects = 0;
    while (!cancel_) {
        if (phase_changed()) {
            return Error{"the phase changed during the verification", ""};
        }
        const auto started = Clock::now();
        const std::uint64_t rows_before = result_.rows_compared;
        auto high = next ? Result<KeyText>(*next) : upper_key(low);
        next.reset();
        auto compared = high ? compare_and_look_ahead(low, *high, next) : Result<void>(high.error());
        if (!compared) {
            const bool lost =
                classify_failure(compared.error(), session_->primary) == Failure::lost ||
                classify_failure(compared.error(), session_->mirror) == Failure::lost;
            if (!lost || ++reconnects > max_reconnects) {
                return compared;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(200) * reconnects);
            if (auto again = connect(); !again && reconnects == max_reconnects) {
                return again;
            }
            result_.rows_compared = rows_before;
            next.reset();
            continue;
        }
        reconnects = 0;
        report();
        if (high->empty()) {
            break;
        }
        low = *high;
        const double ratio = std::chrono::duration<double>(range_time) /
                             std::max<std::chrono::duration<double>>(
                                 Clock::now() - started, std::chrono::milliseconds(1));
        range_rows_ = static_cast<std::uint64_t>(std::clamp(
            static_cast<double>(range_rows_) * std::clamp(ratio, 0.25, 2.0), 100.0, 250000.0));
    }
    return {};
}

// The key that ends the next range; empty if the range is the last one and open above, so that
// extra rows behind the primary's last are seen.
Result<KeyText> TableVerifier::upper_key(const KeyText& low) {
    Connection& side = cut_on_mirror() ? session_->mirror : session_->primary;
    auto rows = side.exec(upper_key_query(low));
    if (!rows) {
        return std::move(rows).error();
    }
    return upper_key_of(*rows);
}

std::string TableVerifier::upper_key_query(const KeyText& low) const {
    const std::string key = column_list(image_, image_.key);
    return "SELECT " + key + " FROM " +
           (cut_on_mirror() ? mirror_rows(table_) : primary_rows(table_)) + where(low, {}) +
           " ORDER BY " + key + " OFFSET " + std::to_string(range_rows_ - 1) + " LIMIT 1";
}

KeyText TableVerifier::upper_key_of(const Rows& rows) {
    KeyText key;
    for (int column = 0; rows.size() == 1 && column < rows.columns(); ++column) {
        key.push_back(rows.text(0, column));
    }
    return key;
}

// While both sides sum up a range, the scout finds the end of the one behind it.
Result<void> TableVerifier::compare_and_look_ahead(const KeyText& low, const KeyText& high,
                                                   std::optional<KeyText>& next) {
    const bool ahead = !high.empty() && !cut_on_mirror();
    if (ahead) {
        BANYAN_TRY(ask(session_->scout, upper_key_query(high)));
    }
    auto compared = compare_range(low, high);
    if (ahead) {
        auto found = answer(session_->scout);
        if (compared && !found) {
            return std::move(found).error();
        }
        if (found) {
            next = upper_key_of(*found);
        }
    }
    return compared;
}

Result<void> TableVerifier::compare_range(const KeyText& low, const KeyText& high) {
    const std::string range = where(low, high);
    auto sums = ask_both(*session_, sum_query(image_, primary_rows(table_), range),
                         sum_query(image_, mirror_rows(table_), range));
    if (!sums) {
        return std::move(sums).error();
    }
    result_.rows_compared += static_cast<std::uint64_t>(sums->primary.number(0, 0));
    if (sums->primary.view(0, 0) == sums->mirror.view(0, 0) &&
        sums->primary.view(0, 1) == sums->mirror.view(0, 1)) {
        return {};
    }
    auto keys = candidates(low, high);
    if (!keys) {
        return std::move(keys).error();
    }
    return judge(*keys);
}

Result<std::vector<KeyText>> TableVerifier::candidates(const KeyText& low, const KeyText& high) {
    const std::string select =
        "SELECT " + row_hash(image_) + ", " + column_list(image_, image_.key) + " FROM ";
    const std::string range = where(low, high);
    auto rows = ask_both(*session_, select + primary_rows(table_) + range,
                         select + mirror_rows(table_) + range);
    if (!rows) {
        return std::move(rows).error();
    }
    auto key_at = [&](const Rows& side, int row) {
        KeyText key;
        for (int column = 1; column < side.columns(); ++column) {
            key.push_back(side.text(row, column));
        }
        return key;
    };
    std::map<KeyText, std::string> expected;
    for (int row = 0; row < rows->primary.size(); ++row) {
        expected.emplace(key_at(rows->primary, row), rows->primary.text(row, 0));
    }
    std::vector<KeyText> keys;
    for (int row = 0; row < rows->mirror.size(); ++row) {
        KeyText key = key_at(rows->mirror, row);
        const auto twin = expected.find(key);
        if (twin == expected.end()) {
            keys.push_back(std::move(key));
            continue;
        }
        if (twin->second != rows->mirror.view(row, 0)) {
            keys.push_back(std::move(key));
        }
        expected.erase(twin);
    }
    for (auto& [key, hash] : expected) {
        keys.push_back(key);
    }
    return keys;
}

Result<void> TableVerifier::judge(const std::vector<KeyText>& keys) {
    if (keys.empty()) {
        ++result_.raced;  // gone before the range could be listed
        return {};
    }
    auto rechecked = recheck_keys(*session_, context_.ledger, table_, keys, cancel_);
    if (!rechecked) {
        return std::move(rechecked).error();
    }
    std::vector<RowKey> to_repair;
    for (const Rechecked& item : *rechecked) {
        switch (item.verdict) {
            case Verdict::equal:
                ++result_.raced;
                continue;
            case Verdict::undecided:
                ++undecided_;
                continue;
            case Verdict::missing:
                ++result_.missing;
                break;
            case Verdict::extra:
                ++result_.extra;
                break;
            case Verdict::different:
                ++result_.different;
                break;
        }
        to_repair.push_back(item.key);
        if (result_.sample.size() < max_sample) {
            Difference difference{printable_key(table_, item.text),
                                  std::string(to_string(item.verdict)), {}};
            if (item.verdict == Verdict::different) {
                auto columns = differing_columns(*session_, table_, item.text);
                if (!columns) {
                    return std::move(columns).error();
                }
                difference.columns = std::move(*columns);
            }
            result_.sample.push_back(std::move(difference));
        }
    }
    // Found faster than they are repaired, they would be too many to keep, and become ranges again:
    // a few at a time, as repair makes room.
    constexpr std::size_t step = 40;
    for (std::size_t i = 0; repair_ && i < to_repair.size() && !cancel_; i += step) {
        const auto first = to_repair.begin() + static_cast<std::ptrdiff_t>(i);
        const auto count = std::min(step, to_repair.size() - i);
        context_.ledger.mark_dirty({first, first + static_cast<std::ptrdiff_t>(count)},
                                   "verification");
        while (context_.ledger.dirty_backlog() && !cancel_ && !phase_changed()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
    }
    return {};
}

// Without a key there are no ranges and no rows to name: the two sums must meet, or stay apart
// while nothing changes.
Result<void> TableVerifier::compare_whole() {
    std::uint32_t apart = 0;
    auto pause = std::chrono::milliseconds(20);
    for (std::uint32_t attempt = 0; attempt < whole_table_attempts && !cancel_; ++attempt) {
        if (phase_changed()) {
            return Error{"the phase changed during the verification", ""};
        }
        using Sums = std::pair<std::string, std::string>;
        auto sums = [&](Connection& connection, const std::string& from) -> Result<Sums> {
            auto rows = connection.exec(sum_query(image_, from, ""));
            if (!rows) {
                return std::move(rows).error();
            }
            result_.rows_compared = static_cast<std::uint64_t>(rows->number(0, 0));
            return Sums(rows->text(0, 0), rows->text(0, 1));
        };
        auto before = sums(session_->primary, primary_rows(table_));
        if (!before) {
            return std::move(before).error();
        }
        const bool drained = context_.ledger.wait_in_flight(in_flight_timeout);
        auto mirror = sums(session_->mirror, mirror_rows(table_));
        if (!mirror) {
            return std::move(mirror).error();
        }
        auto after = sums(session_->primary, primary_rows(table_));
        if (!after) {
            return std::move(after).error();
        }
        if (*mirror == *before || *mirror == *after) {
            result_.raced = attempt;
            return {};
        }
        apart = drained && *before == *after ? apart + 1 : 0;
        if (apart == 2) {
            ++result_.different;
            return {};
        }
        std::this_thread::sleep_for(pause);
        pause *= 2;
    }
    ++undecided_;
    return {};
}

}  // namespace

TableVerification verify_table(const VerifyContext& context, const Table& table, bool repair,
                               const std::function<void(const TableVerification&)>& progress,
                               const std::atomic<bool>& cancel, const KeyRanges& rows) {
    return TableVerifier(context, table, repair, progress, cancel, rows).run();
}

}  // namespace banyan::router
