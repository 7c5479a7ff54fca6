#include "router/state/state_db.hpp"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "router/state/disk_reserve.hpp"
#include "router/state/lock_file.hpp"
#include "router/state/sqlite.hpp"

namespace banyan::router {
namespace {

constexpr std::size_t max_batch = 1024;
constexpr int checkpoint_pages = 1000;     // 4 MB: how much WAL the checkpointer lets gather
constexpr int restart_pages = 16 * 1024;   // 64 MB: from here on the writer helps
constexpr int most_log_pages = 32 * 1024;  // 128 MB: and here it waits for the checkpoint
constexpr int free_pages_kept = 2048;      // 8 MB: more are given back to the disk
constexpr int free_pages_a_batch = 256;    // and so many at once

using Db = std::unique_ptr<sqlite3, int (*)(sqlite3*)>;

Db open_connection(const std::filesystem::path& file) {
    sqlite3* db = nullptr;
    const int code = sqlite3_open_v2(
        file.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX,
        nullptr);
    Db owned(db, &sqlite3_close_v2);
    if (code != SQLITE_OK) {
        throw std::runtime_error(db == nullptr ? "out of memory" : sqlite3_errmsg(db));
    }
    sqlite3_busy_timeout(db, 10'000);
    return owned;
}

std::string boot_id() {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string id;
    std::getline(file, id);
    return id;
}

// Of the file's tables. A later version may keep what this one would not heed.
constexpr std::int64_t schema_version = 1;

void check_file(sqlite3* db) {
    sqlite::Statement version(db, "PRAGMA user_version");
    if (version.step() && version.number(0) > schema_version) {
        throw std::runtime_error("it is of a newer version of Banyan (schema " +
                                 std::to_string(version.number(0)) + ", this one knows " +
                                 std::to_string(schema_version) + ")");
    }
    version.reset();
    // Every page that is in use, its order and its records; not whether indexes and tables agree.
    sqlite::Statement check(db, "PRAGMA quick_check(1)");
    if (check.step() && check.text(0) != "ok") {
        std::string what = check.text(0);
        std::replace(what.begin(), what.end(), '\n', ' ');
        throw std::runtime_error("it is damaged: " + what);
    }
    check.reset();
}

Result<void> prepare_directory(const std::filesystem::path& directory) {
    namespace fs = std::filesystem;
    std::error_code code;
    if (fs::create_directories(directory, code)) {
        fs::permissions(directory, fs::perms::owner_all, code);
    }
    if (code) {
        return Error{
            "cannot create the state directory " + directory.string() + ": " + code.message(), ""};
    }
    const auto modes = fs::status(directory, code).permissions();
    if (!code && (modes & (fs::perms::group_all | fs::perms::others_all)) != fs::perms::none) {
        spdlog::warn("state: {} can be entered by others than its owner; chmod 700 it",
                     directory.string());
    }
    return {};
}

std::string meta(sqlite3* db, std::string_view name) {
    sqlite::Statement get(db, "SELECT value FROM meta WHERE name = ?");
    get.bind_text(1, name);
    return get.step() ? get.text(0) : "";
}

// Which file a path names, to notice that it was deleted or replaced: SQLite would write on to a
// file that no next run can find.
struct FileIdentity {
    dev_t device = 0;
    ino_t inode = 0;

    static FileIdentity of(const std::filesystem::path& file) {
        struct stat found {};
        return ::stat(file.c_str(), &found) == 0 ? FileIdentity{found.st_dev, found.st_ino}
                                                 : FileIdentity{};
    }
    bool operator==(const FileIdentity&) const = default;
};

void set_meta(sqlite3* db, std::string_view name, std::string_view value) {
    sqlite::Statement put(db, "INSERT OR REPLACE INTO meta(name, value) VALUES (?, ?)");
    put.bind_text(1, name).bind_text(2, value).run();
}

}  // namespace

class StateDb::Impl {
   public:
    struct Request {
        std::function<void(sqlite3*)> work;
        std::function<void(bool)> done;
    };

    Result<void> open(const std::filesystem::path& directory, Durability durability) {
        BANYAN_TRY(prepare_directory(directory));
        BANYAN_TRY(lock_.take(directory));
        const auto file = directory / "banyan.db";
        reserve_.emplace(directory);
        file_ = file;
        log_file_ = directory / "banyan.db-wal";
        try {
            writer_ = open_connection(file);
            check_file(writer_.get());
            start_run(durability);
            reader_ = open_connection(file);
            sqlite::exec(reader_.get(), "PRAGMA query_only = ON");
            checkpointer_ = open_connection(file);
            sqlite::exec(checkpointer_.get(), "PRAGMA synchronous = NORMAL");
            // Connections open lazily; a damaged file should be found now.
            sqlite::Statement count(reader_.get(), "SELECT count(*) FROM meta");
            count.run();
        } catch (const std::exception& error) {
            if (reserve_->disk_is_full()) {
                return Error{"the state database " + file.string() +
                                 " cannot be used: " + error.what() +
                                 "; its disk is full: make room and start again, what is in it is "
                                 "not lost",
                             ""};
            }
            return Error{"the state database " + file.string() +
                             " cannot be used: " + error.what() +
                             "; if it is damaged, move banyan.db* away and start with "
                             "--seize-lease (or without it, if the phase was INITIAL)",
                         ""};
        }
        opened_ = true;
        file_identity_ = FileIdentity::of(file_);
        log_identity_ = FileIdentity::of(log_file_);
        reserve_->keep();
        sqlite3_wal_hook(writer_.get(), &Impl::log_grew, this);
        writer_thread_ = std::thread([this] { write_loop(); });
        checkpoint_thread_ = std::thread([this] { checkpoint_loop(); });
        return {};
    }

    // Says what the previous run left behind and marks this one as not ended. Synced, whatever the
    // durability: were the cleared mark lost in a machine crash, the crash would look like a clean
    // end.
    void start_run(Durability durability) {
        sqlite3* db = writer_.get();
        sqlite::exec(db,
                     // Only a new file takes it; in an older one free pages are used again, but
                     // never given back.
                     "PRAGMA auto_vacuum = INCREMENTAL;"
                     "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                     "PRAGMA journal_size_limit = 33554432;"
                     "PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY;"
                     "PRAGMA cache_size = -16000;"
                     "BEGIN IMMEDIATE;"
                     "CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL)"
                     "  WITHOUT ROWID;"
                     "CREATE TABLE IF NOT EXISTS tables(id INTEGER PRIMARY KEY AUTOINCREMENT,"
                     "  schema TEXT NOT NULL, name TEXT NOT NULL, UNIQUE(schema, name));");
        const std::string boot = boot_id();
        const bool crashed = meta(db, "ended") == "no" && meta(db, "durability") == "process" &&
                             meta(db, "boot_id") != boot;
        if (crashed || lock_.lost()) {
            set_meta(db, "journal_incomplete", "yes");
        }
        machine_crashed_ = meta(db, "journal_incomplete") == "yes";
        set_meta(db, "boot_id", boot);
        set_meta(db, "durability", durability == Durability::process ? "process" : "power");
        set_meta(db, "ended", "no");
        sqlite::exec(db, "PRAGMA user_version = " + std::to_string(schema_version));
        sqlite::exec(db, "COMMIT");
        lock_.set_lost(false);
        // NORMAL in WAL mode writes without syncing, like OFF, but orders the checkpoints: a
        // machine crash may lose the last commits and never damages the file.
        if (durability == Durability::process) {
            sqlite::exec(db, "PRAGMA synchronous = NORMAL");
        }
        sqlite::Statement all(db, "SELECT id, schema, name FROM tables");
        while (all.step()) {
            table_ids_[{all.text(1), all.text(2)}] = static_cast<TableId>(all.number(0));
        }
    }

    void submit(Request request) {
        {
            const std::lock_guard guard(mutex_);
            if (!stopping_) {
                queue_.push_back(std::move(request));
                if (queue_.size() == 1) {
                    wake_.notify_one();
                }
                return;
            }
        }
        request.done(false);
    }

    void shut_down() {
        {
            const std::lock_guard guard(mutex_);
            stopping_ = true;
        }
        wake_.notify_all();
        checkpoint_wake_.notify_all();
        if (writer_thread_.joinable()) {
            writer_thread_.join();
        }
        if (checkpoint_thread_.joinable()) {
            checkpoint_thread_.join();
        }
        if (!opened_) {
            return;
        }
        try {
            sqlite::exec(writer_.get(), "PRAGMA synchronous = FULL");
            set_meta(writer_.get(), "ended", "clean");
        } catch (const std::exception& error) {
            spdlog::error("state: the clean end could not be recorded: {}", error.what());
        }
    }

    void write_loop() {
        std::deque<Request> batch;
        for (;;) {
            {
                std::unique_lock lock(mutex_);
                wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
                if (queue_.empty()) {
                    break;
                }
                const std::size_t size = std::min(queue_.size(), max_batch);
                std::move(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(size),
                          std::back_inserter(batch));
                queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(size));
            }
            write_batch(batch);
            batch.clear();
            shrink();
            if (restart_due_.exchange(false) || log_pages_ >= most_log_pages) {
                const std::lock_guard guard(checkpoint_mutex_);
                sqlite3_wal_checkpoint_v2(writer_.get(), nullptr, SQLITE_CHECKPOINT_RESTART,
                                          nullptr, nullptr);
            }
        }
    }

    // After every commit, on the writer thread: how long the log has grown.
    static int log_grew(void* self, sqlite3*, const char*, int pages) {
        static_cast<Impl*>(self)->log_grew(pages);
        return SQLITE_OK;
    }

    void log_grew(int pages) {
        if (pages < log_pages_) {
            next_checkpoint_ = checkpoint_pages;  // the log began anew
        }
        log_pages_ = pages;
        if (pages >= next_checkpoint_) {
            next_checkpoint_ = pages + checkpoint_pages;
            const std::lock_guard guard(mutex_);
            checkpoint_due_ = true;
            checkpoint_wake_.notify_one();
        }
    }

    // Checkpoints sync, which may take long on a slow disk, so they run beside the writer: PASSIVE
    // never makes it wait. But the log begins anew only when the writer pauses with all of it
    // checkpointed. If it never does, it is asked to see to the little that the passive checkpoint
    // left by itself; another connection would starve waiting for its turn to write.
    void checkpoint_loop() {
        for (;;) {
            {
                std::unique_lock lock(mutex_);
                checkpoint_wake_.wait(lock, [&] { return stopping_ || checkpoint_due_; });
                if (stopping_) {
                    return;
                }
                checkpoint_due_ = false;
            }
            const std::lock_guard guard(checkpoint_mutex_);
            const int code = sqlite3_wal_checkpoint_v2(
                checkpointer_.get(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
            // Nothing is lost: the log keeps what the file could not take.
            if (code != SQLITE_OK && code != SQLITE_BUSY && code != SQLITE_LOCKED &&
                !std::exchange(checkpoint_failing_, true)) {
                spdlog::error("state: a checkpoint failed: {}", sqlite3_errstr(code));
            } else if (code == SQLITE_OK) {
                checkpoint_failing_ = false;
            }
            restart_due_ = log_pages_ >= restart_pages;
        }
    }

    // After a backlog has drained, its pages go back to the disk, some with each batch.
    void shrink() {
        if (failing_ || ++batches_since_look_ < 64) {
            return;
        }
        batches_since_look_ = 0;
        try {
            sqlite::Statement count(writer_.get(), "PRAGMA freelist_count");
            const bool many = count.step() && count.number(0) > free_pages_kept;
            count.reset();
            if (many) {
                batches_since_look_ = 64;  // again after the next batch
                sqlite::exec(writer_.get(), "PRAGMA incremental_vacuum(" +
                                                std::to_string(free_pages_a_batch) + ")");
            }
        } catch (const std::exception& error) {
            spdlog::warn("state: free pages could not be given back: {}", error.what());
        }
    }

    void check_still_there() const {
        if (FileIdentity::of(file_) != file_identity_ ||
            (log_identity_ != FileIdentity{} && FileIdentity::of(log_file_) != log_identity_)) {
            throw std::runtime_error(file_.string() +
                                     " or its log was deleted, moved or replaced; put it back");
        }
    }

    std::string transact(const std::function<void()>& work) {
        try {
            check_still_there();
            sqlite::exec(writer_.get(), "BEGIN IMMEDIATE");
            work();
            sqlite::exec(writer_.get(), "COMMIT");
            batches_.fetch_add(1, std::memory_order_relaxed);
            return "";  // the caller counts the requests
        } catch (const std::exception& error) {
            const std::string why = error.what();
            // SQLITE_FULL and SQLITE_IOERR may have rolled back already.
            if (sqlite3_get_autocommit(writer_.get()) == 0) {
                sqlite3_exec(writer_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
            }
            return why.empty() ? "unknown" : why;
        }
    }

    void write_batch(std::deque<Request>& batch) {
        const std::string why = transact([&] {
            for (Request& request : batch) {
                request.work(writer_.get());
            }
        });
        if (why.empty()) {
            requests_.fetch_add(batch.size(), std::memory_order_relaxed);
            for (Request& request : batch) {
                request.done(true);
            }
            failing_ = false;
            return;
        }
        for (Request& request : batch) {
            const std::string single = transact([&] { request.work(writer_.get()); });
            if (!single.empty()) {
                errors_.fetch_add(1, std::memory_order_relaxed);
                if (!std::exchange(failing_, true)) {
                    spdlog::error("state: a write failed: {}", single);
                }
            } else {
                requests_.fetch_add(1, std::memory_order_relaxed);
                failing_ = false;
            }
            request.done(single.empty());
        }
    }

    std::mutex mutex_;  // queue_, stopping_, checkpoint_due_
    std::condition_variable wake_;
    std::condition_variable checkpoint_wake_;
    std::deque<Request> queue_;
    bool stopping_ = false;
    bool checkpoint_due_ = false;
    std::mutex checkpoint_mutex_;  // a checkpoint fails at once while another one runs
    std::atomic<int> log_pages_{0};
    std::atomic<bool> restart_due_{false};
    int next_checkpoint_ = checkpoint_pages;  // writer thread only
    bool failing_ = false;                    // writer thread only
    int batches_since_look_ = 0;              // writer thread only
    bool checkpoint_failing_ = false;         // checkpointer's thread only
    std::filesystem::path file_;
    std::filesystem::path log_file_;
    FileIdentity file_identity_;
    FileIdentity log_identity_;
    std::optional<DiskReserve> reserve_;

    std::mutex tables_mutex_;
    std::map<std::pair<std::string, std::string>, TableId> table_ids_;
    std::mutex reader_mutex_;
    std::atomic<bool> machine_crashed_{false};
    std::atomic<std::uint64_t> batches_{0};
    std::atomic<std::uint64_t> requests_{0};
    std::atomic<std::uint64_t> errors_{0};
    bool opened_ = false;

    // Declared first, so released last: nobody may open the file before it is closed here.
    LockFile lock_;
    Db writer_{nullptr, &sqlite3_close_v2};
    Db reader_{nullptr, &sqlite3_close_v2};
    Db checkpointer_{nullptr, &sqlite3_close_v2};
    std::thread writer_thread_;
    std::thread checkpoint_thread_;
};

StateDb::StateDb(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

StateDb::~StateDb() {
    impl_->shut_down();
}

Result<std::unique_ptr<StateDb>> StateDb::open(const std::filesystem::path& directory,
                                               Durability durability) {
    auto impl = std::make_unique<Impl>();
    auto opened = impl->open(directory, durability);
    if (const DiskReserve reserve(directory);
        !opened && reserve.disk_is_full() && reserve.give_up()) {
        spdlog::warn("state: the disk of {} is full; its reserve is used", directory.string());
        impl.reset();  // and the lock with it
        impl = std::make_unique<Impl>();
        opened = impl->open(directory, durability);
    }
    BANYAN_TRY(std::move(opened));
    return std::unique_ptr<StateDb>(new StateDb(std::move(impl)));
}

void StateDb::submit(std::function<void(sqlite3*)> work, std::function<void(bool)> done) {
    impl_->submit({std::move(work), std::move(done)});
}

bool StateDb::submit_and_wait(std::function<void(sqlite3*)> work) {
    // Shared: set_value() may still be at work when the waiter is already on its way.
    auto answered = std::make_shared<std::promise<bool>>();
    impl_->submit({std::move(work), [answered](bool ok) { answered->set_value(ok); }});
    return answered->get_future().get();
}

void StateDb::read(const std::function<void(sqlite3*)>& read) {
    const std::lock_guard guard(impl_->reader_mutex_);
    read(impl_->reader_.get());
}

TableId StateDb::table_id(const std::string& schema, const std::string& name) {
    const std::lock_guard guard(impl_->tables_mutex_);
    const auto known = impl_->table_ids_.find({schema, name});
    if (known != impl_->table_ids_.end()) {
        return known->second;
    }
    TableId id = 0;
    const bool stored = submit_and_wait([&](sqlite3* db) {
        sqlite::Statement put(db, "INSERT INTO tables(schema, name) VALUES (?, ?)");
        put.bind_text(1, schema).bind_text(2, name).run();
        id = static_cast<TableId>(sqlite3_last_insert_rowid(db));
    });
    if (!stored) {
        return 0;
    }
    impl_->table_ids_[{schema, name}] = id;
    return id;
}

bool StateDb::machine_crashed() const {
    return impl_->machine_crashed_;
}

void StateDb::machine_crash_handled() {
    if (impl_->machine_crashed_ &&
        submit_and_wait([](sqlite3* db) { set_meta(db, "journal_incomplete", "no"); })) {
        impl_->machine_crashed_ = false;
    }
}

void StateDb::note_journal_lost(bool lost) {
    impl_->lock_.set_lost(lost);
    if (!lost) {
        impl_->reserve_->keep();  // there is room again
    }
}

std::string StateDb::lock_identity() const {
    return boot_id() + ":" + impl_->lock_.identity();
}

std::uint64_t StateDb::batches() const {
    return impl_->batches_.load(std::memory_order_relaxed);
}
std::uint64_t StateDb::requests() const {
    return impl_->requests_.load(std::memory_order_relaxed);
}
std::uint64_t StateDb::file_bytes() const {
    std::uint64_t bytes = 0;
    for (const auto& file : {impl_->file_, impl_->log_file_}) {
        std::error_code code;
        const auto size = std::filesystem::file_size(file, code);
        bytes += code ? 0 : size;
    }
    return bytes;
}
std::uint64_t StateDb::errors() const {
    return impl_->errors_.load(std::memory_order_relaxed);
}

}  // namespace banyan::router
