#include "router/sync/recheck.hpp"

#include <algorithm>
#include <chrono>
#include <thread>
#include <unordered_set>

namespace banyan::router {
namespace {

using Clock = std::chrono::steady_clock;
using Hash = std::optional<std::string>;  // nullopt: no such row

constexpr std::size_t batch_keys = 500;
constexpr std::uint32_t attempts = 6;
constexpr std::uint32_t confirmations = 2;  // a hash that comes back to an old value fools one look
constexpr std::size_t dirty_sample_keys = 5000;
constexpr std::chrono::milliseconds in_flight_timeout{2000};
constexpr std::chrono::milliseconds repair_patience{5000};
constexpr std::chrono::milliseconds lock_patience{1000};

struct Candidate {
    Rechecked* out = nullptr;
    std::uint32_t confirmed = 0;
    bool stable = false;  // at the last look: the primary's row did not change
    bool dirty = false;   // at the last look
    Verdict looks = Verdict::undecided;  // what it would be if it is real
};

/// `rows`: primary_rows() or mirror_rows(), as `t`.
std::string keyed_select(const Table& table, const std::string& rows,
                         const std::vector<KeyText>& keys, const std::string& what) {
    const Table& image = table.on_mirror();
    return "SELECT v.i, " + what + " FROM " + key_values(image, keys) + " AS v(" +
           key_aliases(image) + ") JOIN " + rows + " ON " + key_join(image);
}

Result<std::vector<Hash>> read_hashes(Connection& connection, const Table& table,
                                      const std::string& from, const std::vector<KeyText>& keys) {
    auto rows =
        connection.exec(keyed_select(table, from, keys, row_hash(table.on_mirror(), "t.")));
    if (!rows) {
        return std::move(rows).error();
    }
    std::vector<Hash> hashes(keys.size());
    for (int row = 0; row < rows->size(); ++row) {
        hashes.at(static_cast<std::size_t>(rows->number(row, 0))) = rows->text(row, 1);
    }
    return hashes;
}

// Locks the primary's row of one key; false: there is none.
Result<bool> hold_row(Connection& connection, const Table& table, const KeyText& key) {
    auto rows = connection.exec("SELECT 1 FROM " + table.only_name() + " WHERE " +
                                key_compare(table, "=", key) + " FOR SHARE");
    if (!rows) {
        return std::move(rows).error();
    }
    return rows->size() > 0;
}

// The keys in binary, from their text: the rows need not exist.
Result<void> encode_keys(Connection& connection, const Table& table,
                         const std::vector<KeyText>& texts, std::vector<Rechecked>& out) {
    auto rows = connection.exec("SELECT * FROM " + key_values(table, texts) + " AS v(" +
                                    key_aliases(table) + ") ORDER BY i",
                                {}, true);
    if (!rows) {
        return std::move(rows).error();
    }
    for (int row = 0; row < rows->size(); ++row) {
        Rechecked& item = out.emplace_back();
        item.text = texts[static_cast<std::size_t>(row)];
        item.key = row_key(table, *rows, row, 1);
    }
    return {};
}

// Which keys are dirty now. A queue too long to look through counts as holding all of them.
class DirtySet {
   public:
    DirtySet(const Ledger& ledger, TableId table) {
        if (ledger.dirty_count(table) == 0) {
            return;
        }
        if (ledger.dirty_count() > dirty_sample_keys) {
            all_ = true;
            return;
        }
        for (DirtyKey& dirty : ledger.dirty_sample(dirty_sample_keys)) {
            keys_.insert(std::move(dirty.key));
        }
    }
    bool contains(const RowKey& key) const { return all_ || keys_.contains(key); }

   private:
    bool all_ = false;
    std::unordered_set<RowKey, RowKeyHash> keys_;
};

Verdict kind_of(const Hash& primary, const Hash& mirror) {
    return !mirror ? Verdict::missing : !primary ? Verdict::extra : Verdict::different;
}

std::vector<KeyText> texts_of(const std::vector<Candidate>& candidates) {
    std::vector<KeyText> texts;
    for (const Candidate& candidate : candidates) {
        texts.push_back(candidate.out->text);
    }
    return texts;
}

// One look at every candidate; those decided are removed.
Result<void> look(VerifySession& session, const Ledger& ledger, const Table& table,
                  std::vector<Candidate>& candidates) {
    const std::vector<KeyText> texts = texts_of(candidates);
    auto before = read_hashes(session.primary, table, primary_rows(table), texts);
    if (!before) {
        return std::move(before).error();
    }
    // Whoever wrote what was just read has committed on the primary, so its keys were in flight
    // before: once it has ended they are on the mirror, or dirty.
    const bool drained = ledger.wait_in_flight(in_flight_timeout);
    const DirtySet dirty(ledger, table.id);
    std::vector<bool> in_flight;
    for (const Candidate& candidate : candidates) {
        in_flight.push_back(!drained && ledger.in_flight(candidate.out->key));
    }
    auto mirror = read_hashes(session.mirror, table, mirror_rows(table), texts);
    if (!mirror) {
        return std::move(mirror).error();
    }
    auto after = read_hashes(session.primary, table, primary_rows(table), texts);
    if (!after) {
        return std::move(after).error();
    }
    std::vector<Candidate> left;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        Candidate candidate = candidates[i];
        const Hash& first = (*before)[i];
        const Hash& second = (*after)[i];
        const Hash& mirrored = (*mirror)[i];
        if (mirrored == first || mirrored == second) {
            candidate.out->verdict = Verdict::equal;
            continue;
        }
        candidate.stable = first == second && !in_flight[i];
        candidate.dirty = dirty.contains(candidate.out->key);
        candidate.looks = kind_of(second, mirrored);
        candidate.confirmed = candidate.stable && !candidate.dirty ? candidate.confirmed + 1 : 0;
        if (candidate.confirmed >= confirmations) {
            candidate.out->verdict = candidate.looks;
            continue;
        }
        left.push_back(candidate);
    }
    candidates = std::move(left);
    return {};
}

// For a row so busy that it changes between any two looks: hold it still on the primary for the few
// milliseconds that its last writer needs to reach the mirror.
Result<void> look_locked(VerifySession& session, const Ledger& ledger, const Table& table,
                         Candidate& candidate) {
    const std::vector<KeyText> text = {candidate.out->text};
    BANYAN_TRY(session.primary.exec("BEGIN; SET LOCAL lock_timeout = '500ms'"));
    auto locked = hold_row(session.primary, table, text.front());
    auto held = !locked ? Result<std::vector<Hash>>(std::move(locked).error())
                : *locked ? read_hashes(session.primary, table, primary_rows(table), text)
                          : std::vector<Hash>(1);
    if (!held || !held->front()) {
        const bool busy = !held && classify_failure(held.error(), session.primary) ==
                                       Failure::contention;
        session.primary.rollback();
        if (held || busy) {
            return {};  // no row to hold, or not to be had: undecided
        }
        return std::move(held).error();
    }
    const auto deadline = Clock::now() + lock_patience;
    while (ledger.in_flight(candidate.out->key) && Clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const bool drained = !ledger.in_flight(candidate.out->key);
    const bool dirty = DirtySet(ledger, table.id).contains(candidate.out->key);
    auto mirror = read_hashes(session.mirror, table, mirror_rows(table), text);
    session.primary.rollback();
    if (!mirror) {
        return std::move(mirror).error();
    }
    if (mirror->front() == held->front()) {
        candidate.out->verdict = Verdict::equal;
    } else if (drained && !dirty) {
        candidate.out->verdict = kind_of(held->front(), mirror->front());
    }
    return {};
}

Result<void> decide(VerifySession& session, const Ledger& ledger, const Table& table,
                    std::vector<Candidate> candidates, const std::atomic<bool>& cancel) {
    const auto started = Clock::now();
    auto pause = std::chrono::milliseconds(5);
    for (std::uint32_t attempt = 1; !candidates.empty() && !cancel; ++attempt) {
        BANYAN_TRY(look(session, ledger, table, candidates));
        const bool repair_may_help =
            Clock::now() - started < repair_patience &&
            std::any_of(candidates.begin(), candidates.end(),
                        [](const Candidate& candidate) { return candidate.dirty; });
        if (candidates.empty() || (attempt >= attempts && !repair_may_help)) {
            break;
        }
        std::this_thread::sleep_for(pause);
        pause = std::min(pause * 2, std::chrono::milliseconds(400));
    }
    for (Candidate& candidate : candidates) {
        if (cancel) {
            break;
        }
        if (candidate.stable && candidate.dirty) {
            candidate.out->verdict = candidate.looks;  // repair did not come: it does differ
        } else {
            BANYAN_TRY(look_locked(session, ledger, table, candidate));
        }
    }
    return {};
}

}  // namespace

Result<std::vector<Rechecked>> recheck_keys(VerifySession& session, const Ledger& ledger,
                                            const Table& table, const std::vector<KeyText>& keys,
                                            const std::atomic<bool>& cancel) {
    std::vector<Rechecked> all;
    all.reserve(keys.size());  // candidates point into it
    for (std::size_t begin = 0; begin < keys.size(); begin += batch_keys) {
        const auto first = keys.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto last =
            keys.begin() + static_cast<std::ptrdiff_t>(std::min(begin + batch_keys, keys.size()));
        BANYAN_TRY(encode_keys(session.primary, table, std::vector<KeyText>(first, last), all));
        std::vector<Candidate> candidates;
        for (std::size_t i = begin; i < all.size(); ++i) {
            Candidate& candidate = candidates.emplace_back();
            candidate.out = &all[i];
        }
        BANYAN_TRY(decide(session, ledger, table, std::move(candidates), cancel));
    }
    return all;
}

Result<std::vector<std::string>> differing_columns(VerifySession& session, const Table& table,
                                                   const KeyText& key) {
    const Table& image = table.on_mirror();
    const std::vector<std::size_t> columns = image_columns(image);
    const std::string what = column_list(image, columns, "t.");
    auto rows = ask_both(session, keyed_select(table, primary_rows(table), {key}, what),
                         keyed_select(table, mirror_rows(table), {key}, what));
    if (!rows) {
        return std::move(rows).error();
    }
    std::vector<std::string> names;
    if (rows->primary.size() != 1 || rows->mirror.size() != 1) {
        return names;
    }
    for (std::size_t i = 0; i < columns.size(); ++i) {
        const int field = static_cast<int>(i) + 1;
        if (rows->primary.null(0, field) != rows->mirror.null(0, field) ||
            rows->primary.view(0, field) != rows->mirror.view(0, field)) {
            names.push_back(image.columns[columns[i]].name);
        }
    }
    return names;
}

}  // namespace banyan::router
