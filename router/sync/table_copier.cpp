#include "router/sync/table_copier.hpp"

#include <algorithm>
#include <array>
#include <future>

#include "router/model/mutant.hpp"
#include "router/model/sync_point.hpp"

namespace banyan::router {
namespace {

constexpr const char* chunk_table = "pg_temp.banyan_chunk";
constexpr const char* touched_table = "pg_temp.banyan_touched";
// A chunk that did not go straight in was read twice; the rows behind it are likely to be like it.
constexpr std::uint32_t detour_chunks = 16;
// Straight, S is still being read while a row may have to be waited for on T: whoever has it may wait for a lock
// on S's table, behind this reader.
constexpr int share_of_lock_timeout = 10;

std::string set_lock_timeout(std::chrono::milliseconds timeout) {
    return "SET lock_timeout = '" + std::to_string(timeout.count()) + "ms';";
}

// Ends a COPY FROM STDIN that cannot be fed any more, leaving the transaction failed.
void abandon_copy(Connection& connection) {
    if (!connection.alive()) {
        return;
    }
    PQputCopyEnd(connection.raw(), "the source failed");
    while (PGresult* result = PQgetResult(connection.raw())) {
        PQclear(result);
        if (!connection.alive()) {
            break;
        }
    }
}

// A RowKey's bytes are, but for the leading field count, a tuple of COPY's binary format.
std::string binary_copy_of(const std::vector<RowKey>& keys, std::size_t key_columns) {
    using namespace std::string_literals;
    std::string data = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"s;
    for (const RowKey& key : keys) {
        data.push_back(static_cast<char>(key_columns >> 8U));
        data.push_back(static_cast<char>(key_columns));
        data += key.bytes;
    }
    return data + "\377\377"s;
}

// mark_dirty() returns before the keys are durable; a commit that leaves its keys dirty says when.
bool make_durably_dirty(Ledger& ledger, const std::vector<RowKey>& keys) {
    CommitIntent intent;
    for (const RowKey& key : keys) {
        intent.writes.push_back({.key = key, .removes = false, .dirty = true});
    }
    auto durable = std::make_shared<std::promise<bool>>();
    auto answer = durable->get_future();
    const TxnId txn =
        ledger.begin_commit(std::move(intent), [durable](bool ok) { durable->set_value(ok); });
    const bool ok = answer.get();
    ledger.finish(txn, CommitOutcome::mirrored);
    return ok;
}

}  // namespace

Result<void> prepare_source_session(Connection& source, std::chrono::milliseconds lock_timeout) {
    // A sort would read the whole rest of the table for every chunk: the key's index has the order.
    BANYAN_TRY(source.exec(set_lock_timeout(lock_timeout) +
                           "SET default_transaction_read_only = on; SET enable_sort = off;"
                           "SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0;"
                           "SET jit = off"));
    return {};
}

Result<void> prepare_target_session(Connection& target, std::chrono::milliseconds lock_timeout) {
    if (auto set = target.exec(set_lock_timeout(lock_timeout) +
                               "SET session_replication_role = replica; SET jit = off");
        !set) {
        Error error = std::move(set).error();
        if (error.sqlstate == "42501") {
            error.message +=
                " on the target: make Banyan's role a superuser there, or GRANT SET ON PARAMETER "
                "session_replication_role";
        }
        return error;
    }
    return {};
}

TableCopier::TableCopier(Ledger& ledger, Connection& source, Connection& target,
                         std::shared_ptr<const Table> table, std::chrono::milliseconds lock_timeout)
    : ledger_(ledger), source_(source), target_(target), table_(std::move(table)),
      image_(table_->on_mirror()), columns_(copied_columns(image_)),
      columns_sql_(column_list(image_, columns_)) {
    const std::string image = column_list(image_, image_columns(image_));
    if (columns_ == image_columns(image_)) {
        straight_into_ = image_.sql_name() + " (" + columns_sql_ + ")";
        begin_straight_ = "BEGIN; SET LOCAL lock_timeout = '" +
                          std::to_string(lock_timeout.count() / share_of_lock_timeout + 1) + "ms'";
    }
    insert_sql_ = "INSERT INTO " + image_.sql_name() + " (" + image +
                  ") OVERRIDING SYSTEM VALUE SELECT " + image + " FROM " + chunk_table +
                  // Named, or a row that collides on another unique index would vanish (R7).
                  " ON CONFLICT (" + column_list(image_, image_.key) + ") DO NOTHING";
    if (mutant("chunk_overwrites")) {
        std::string set;
        for (const std::size_t column : image_columns(image_)) {
            const std::string name = quote_identifier(image_.columns[column].name);
            set += (set.empty() ? "" : ", ") + name + " = excluded." + name;
        }
        insert_sql_.replace(insert_sql_.rfind("DO NOTHING"), std::string::npos,
                            "DO UPDATE SET " + set);
    }
    if (mutant("conflict_without_the_key")) {
        insert_sql_.replace(insert_sql_.rfind(" ON CONFLICT"), std::string::npos,
                            " ON CONFLICT DO NOTHING");
    }
    remove_sql_ = "DELETE FROM " + std::string(chunk_table) + " AS c USING " + touched_table +
                  " AS d WHERE ";
    for (std::size_t i = 0; i < image_.key.size(); ++i) {
        const std::string name = quote_identifier(image_.columns[image_.key[i]].name);
        remove_sql_ += (i == 0 ? "c." : " AND c.") + name + " OPERATOR(pg_catalog.=) d." + name;
    }
}

TableCopier::~TableCopier() { close_window(); }

void TableCopier::close_window() {
    if (window_) {
        ledger_.close_window(*window_);
        window_.reset();
    }
}

Result<void> TableCopier::begin() {
    source_failed_ = false;
    // AS SELECT, not LIKE: that would bring NOT NULL along for columns which are not copied.
    auto create = [&](const char* name, const std::string& columns) {
        return std::string("DROP TABLE IF EXISTS ") + name + "; CREATE TEMPORARY TABLE " +
               std::string(name).substr(8) + " ON COMMIT DELETE ROWS AS SELECT " + columns +
               " FROM " + image_.sql_name() + " WITH NO DATA;";
    };
    BANYAN_TRY(target_.exec(create(chunk_table, columns_sql_) +
                            create(touched_table, column_list(image_, image_.key))));
    auto stored = load_progress(target_, image_);
    if (!stored) {
        return std::move(stored).error();
    }
    progress_ = stored->value_or(StoredProgress{});
    return {};
}

std::string TableCopier::chunk_query(const std::string& columns, std::uint32_t limit) const {
    return "SELECT " + columns + " FROM " + primary_rows(*table_) +
           key_range(image_, progress_.last_key, {}) + " ORDER BY " +
           column_list(image_, image_.key) + " LIMIT " + std::to_string(limit);
}

StoredProgress TableCopier::after(const ChunkRead& chunk, std::uint32_t limit) const {
    StoredProgress next = progress_;
    next.rows += chunk.rows;
    ++next.chunks;
    if (chunk.rows != 0) {
        next.last_key = chunk.last_key;
    }
    // The end: rows that appear behind it now are written by sessions that mirror.
    next.done = chunk.rows < limit;
    return next;
}

Result<std::uint64_t> TableCopier::copy_chunk(std::uint32_t limit) {
    source_failed_ = false;
    if (!mutant("no_window")) {
        window_ = ledger_.open_window(table_->id);  // P1
    }
    auto chunk = transfer(limit);  // P2
    if (!chunk) {
        source_.rollback();
        target_.rollback();
        if (target_.alive()) {
            close_window();  // nothing was committed
        }
        return std::move(chunk).error();
    }
    const StoredProgress next = after(*chunk, limit);
    auto rest = [&]() -> Result<void> {  // P4
        if (!chunk->straight) {
            BANYAN_TRY(remove_touched());
            BANYAN_TRY(target_.exec(insert_sql_));
        }
        return save_progress(target_, image_, next);
    }();
    sync_point(SyncPoint::chunk_inserted);
    if (!rest) {
        target_.rollback();
        if (target_.alive()) {
            close_window();
        }
        return std::move(rest).error();
    }
    if (auto committed = target_.exec("COMMIT"); !committed) {
        outcome_unknown_ = !target_.alive();
        if (!outcome_unknown_) {
            close_window();
        }
        return std::move(committed).error();
    }
    sync_point(SyncPoint::chunk_committed);
    close_window();  // P5
    progress_ = next;
    straight_chunks_ += chunk->straight ? 1U : 0U;
    return chunk->rows;
}

// Straight in where that goes, which is where nothing of the chunk is on the target yet and nothing
// of it was removed meanwhile: the usual case, at a third of the work.
Result<TableCopier::ChunkRead> TableCopier::transfer(std::uint32_t limit) {
    if (not_straight_for_ > 0) {
        --not_straight_for_;
    } else if (!straight_into_.empty()) {
        auto chunk = copy_straight(limit);
        if (chunk || source_failed_ || !target_.alive()) {
            return chunk;
        }
        not_straight_for_ = detour_chunks;
        BANYAN_TRY(target_.exec("ROLLBACK"));
    }
    auto chunk = copy_into(chunk_table, "BEGIN", limit);
    sync_point(SyncPoint::chunk_read);
    return chunk;
}

// A row that is there already, by its key or in another unique index, ends the COPY with an error: so
// whatever this inserts, the mirror did not have. Keys removed since the window opened are only known by
// name, and what the table has under such a name may have been written since: the other way sorts that out.
Result<TableCopier::ChunkRead> TableCopier::copy_straight(std::uint32_t limit) {
    auto chunk = copy_into(straight_into_, begin_straight_, limit);
    sync_point(SyncPoint::chunk_read);
    if (chunk && window_ && !ledger_.touched(*window_).empty()) {
        return Error{"rows of the chunk were removed meanwhile", ""};
    }
    if (chunk) {
        chunk->straight = true;
    }
    return chunk;
}

Result<TableCopier::ChunkRead> TableCopier::copy_into(const std::string& table,
                                                      const std::string& begin,
                                                      std::uint32_t limit) {
    auto chunk =
        stream_rows("COPY (" + chunk_query(columns_sql_, limit) + ") TO STDOUT", table, begin);
    if (!chunk) {
        abandon_copy(target_);
        return std::move(chunk).error();
    }
    if (auto ended = target_.copy_end(); !ended) {
        return std::move(ended).error();
    }
    return chunk;
}

// The server sends one CopyData message for each row; the last one holds the chunk's upper key.
// T's transaction begins when S has sent the first: whoever waits for S's table to become free must
// not hold T's, which a session that has locked S's wants next (DDL).
Result<TableCopier::ChunkRead> TableCopier::stream_rows(const std::string& sql,
                                                        const std::string& into,
                                                        const std::string& begin) {
    ChunkRead chunk;
    std::string last;
    bool target_failed = false;
    const auto begin_copy = [&]() -> Result<void> {
        BANYAN_TRY(target_.exec(begin));
        return target_.copy_begin("COPY " + into + " FROM STDIN");
    };
    auto copied = source_.copy_out(sql, [&](std::string_view line) -> Result<void> {
        auto sent = chunk.rows == 0 ? begin_copy() : Result<void>();
        ++chunk.rows;
        last.assign(line);
        if (sent) {
            sent = target_.copy_data(line);
        }
        target_failed = !sent;
        return sent;
    });
    if (copied && chunk.rows == 0) {
        if (auto begun = begin_copy(); !begun) {
            return std::move(begun).error();
        }
    }
    if (!copied) {
        source_failed_ = !target_failed;
        return std::move(copied).error();
    }
    if (chunk.rows != 0) {
        const std::vector<std::string> fields = split_copy_line(last);
        for (const std::size_t column : image_.key) {
            const auto position = std::find(columns_.begin(), columns_.end(), column);
            chunk.last_key.push_back(
                fields.at(static_cast<std::size_t>(position - columns_.begin())));
        }
    }
    return chunk;
}

// Keys deleted since the window opened: the chunk may have read their rows before that. What is
// touched from here on is dirty already and repaired once the window is closed.
Result<void> TableCopier::remove_touched() {
    const std::vector<RowKey> touched =
        mutant("no_window") ? std::vector<RowKey>{} : ledger_.touched(*window_);
    if (touched.empty()) {
        return {};
    }
    BANYAN_TRY(target_.copy_begin("COPY " + std::string(touched_table) +
                                  " FROM STDIN WITH (FORMAT binary)"));
    BANYAN_TRY(target_.copy_data(binary_copy_of(touched, image_.key.size())));
    if (auto ended = target_.copy_end(); !ended) {
        return std::move(ended).error();
    }
    BANYAN_TRY(target_.exec(remove_sql_));
    return {};
}

Result<std::uint64_t> TableCopier::leave_chunk_to_repair(std::uint32_t limit,
                                                         const std::string& reason) {
    source_failed_ = true;
    const std::string key = column_list(image_, image_.key);
    auto rows = source_.exec(chunk_query(key, limit), {}, true);
    if (!rows) {
        return std::move(rows).error();
    }
    std::vector<RowKey> keys;
    for (int row = 0; row < rows->size(); ++row) {
        keys.push_back(row_key(image_, *rows, row, 0));
    }
    // The last key once more as text, by its binary value: the row itself may be gone by now.
    ChunkRead chunk;
    chunk.rows = keys.size();
    if (!keys.empty()) {
        std::string sql = "SELECT ";
        std::vector<Param> params;
        for (const std::size_t column : image_.key) {
            params.push_back(Param::raw(rows->view(rows->size() - 1,
                                                   static_cast<int>(params.size()))));
            sql += (params.size() == 1 ? "$" : ", $") + std::to_string(params.size()) + "::" +
                   image_.columns[column].type_name;
        }
        auto text = source_.exec(sql, params);
        if (!text) {
            return std::move(text).error();
        }
        for (int column = 0; column < text->columns(); ++column) {
            chunk.last_key.push_back(text->text(0, column));
        }
        // Before the progress: a crash in between repeats the chunk instead of losing it.
        if (!make_durably_dirty(ledger_, keys)) {
            return Error{"the journal cannot be written", ""};
        }
        ledger_.mark_dirty(keys, reason);
    }
    source_failed_ = false;
    const StoredProgress next = after(chunk, limit);
    BANYAN_TRY(save_progress(target_, image_, next));
    progress_ = next;
    return chunk.rows;
}

}  // namespace banyan::router
