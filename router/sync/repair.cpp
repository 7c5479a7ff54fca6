#include "router/sync/repair.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "router/model/sync_point.hpp"
#include "router/sync/row_repair.hpp"

namespace banyan::router {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds idle_wait{100};
constexpr milliseconds reconnect_wait{200};
constexpr milliseconds unknown_backend_wait{2000};  // for a backend whose process id is unknown
constexpr milliseconds linger_limit{3000};          // then a lost backend is ended

// 5, 10, 20, ... 500 ms.
milliseconds backoff(std::uint32_t attempts) {
    return std::min(milliseconds(5U << std::min(attempts, 7U)), milliseconds(500));
}

}  // namespace

class Repair::Impl {
   public:
    explicit Impl(RepairContext context)
        : context_(std::move(context)),
          pace_(context_.config.repair.max_keys_per_second, context_.config.repair.adaptive) {}

    void start() {
        const std::lock_guard guard(mutex_);
        if (!thread_.joinable()) {
            stopping_ = false;
            thread_ = std::thread([this] { run(); });
        }
    }

    void stop() {
        std::thread ended;
        {
            const std::lock_guard guard(mutex_);
            stopping_ = true;
            ended.swap(thread_);
        }
        changed_.notify_all();
        if (ended.joinable()) {
            ended.join();
        }
    }

    void pause() {
        std::unique_lock lock(mutex_);
        paused_ = true;
        changed_.wait(lock, [&] { return !working_; });
    }

    void resume() {
        {
            const std::lock_guard guard(mutex_);
            paused_ = false;
        }
        changed_.notify_all();
    }

    std::string last_error() const {
        const std::lock_guard guard(mutex_);
        return error_;
    }

    RepairProgress progress() const {
        const std::lock_guard guard(mutex_);
        return {pace_.keys_per_second(RepairPace::Clock::now()), pace_.share(),
                std::string(pace_.reason())};
    }

    std::atomic<std::uint64_t> repaired_{0};
    std::atomic<std::uint64_t> requeued_{0};

   private:
    void run() {
        for (;;) {
            {
                std::unique_lock lock(mutex_);
                changed_.wait(lock, [&] { return stopping_ || !paused_; });
                if (stopping_) {
                    break;
                }
                working_ = true;
            }
            const milliseconds rest = round();
            {
                std::unique_lock lock(mutex_);
                working_ = false;
                changed_.notify_all();
                changed_.wait_for(lock, rest, [&] { return stopping_; });
            }
            if (rest.count() == 0 && waits_) {
                // Outside `working_`: pause() need not sit this out.
                context_.ledger.wait_for_work(idle_wait);
            }
        }
        disconnect();
    }

    // One batch; returns how long to rest before the next.
    milliseconds round() {
        waits_ = false;
        const Phase phase = context_.phase();
        if (!mirrors(phase) || !context_.breaker.allows()) {
            disconnect();
            return idle_wait;
        }
        const auto catalog = context_.catalog();
        if (!catalog || catalog->side != primary_of(phase)) {
            return idle_wait;  // between two phases
        }
        if (!connect(primary_of(phase), catalog->version)) {
            return reconnect_wait;
        }
        if (!settle_limbo()) {
            return reconnect_wait;
        }
        const auto keys = context_.ledger.begin_repair(begin_batch());
        const auto before = repaired_.load();
        busy_ = 0;
        const bool connected = repair(keys, *catalog);
        context_.ledger.end_repair();
        waits_ = keys.empty();
        const milliseconds rest = end_batch(keys.size(), repaired_ - before);
        return connected ? rest : std::max(rest, reconnect_wait);
    }

    // --- pace ---

    std::size_t begin_batch() {
        const ApplicationWaits waits = context_.waits ? context_.waits() : ApplicationWaits();
        const std::lock_guard guard(mutex_);
        pace_.begin(RepairPace::Clock::now(), waits);
        return pace_.batch();
    }

    milliseconds end_batch(std::uint64_t keys, std::uint64_t done) {
        const ApplicationWaits waits = context_.waits ? context_.waits() : ApplicationWaits();
        const std::lock_guard guard(mutex_);
        const auto rest = pace_.end(RepairPace::Clock::now(), waits, keys, busy_, done);
        return keys == 0 ? milliseconds(0) : std::chrono::ceil<milliseconds>(rest);
    }

    // --- connections ---

    Connection& on(Side side) { return side == primary_side_ ? *primary_ : *mirror_; }

    bool connect(Side primary_side, std::uint64_t catalog_version) {
        if (primary_ && primary_side_ == primary_side && catalog_version_ == catalog_version) {
            return true;
        }
        disconnect();
        primary_side_ = primary_side;
        catalog_version_ = catalog_version;
        auto primary = open(primary_side);
        if (!primary) {
            note(primary.error().message);
            return false;
        }
        if (auto set = RowRepair::prepare_primary(*primary); !set) {
            note(set.error().message);
            return false;
        }
        auto mirror = open(other(primary_side));
        if (!mirror) {
            context_.breaker.failed(MirrorFault::unreachable, mirror.error().message);
            note(mirror.error().message);
            return false;
        }
        if (auto set = RowRepair::prepare_mirror(*mirror, context_.config.latest()->mirror.lock_timeout);
            !set) {
            note(set.error().message);
            return false;
        }
        primary_.emplace(std::move(*primary));
        mirror_.emplace(std::move(*mirror));
        rows_.emplace(*primary_, *mirror_, context_.ledger);
        return true;
    }

    Result<Connection> open(Side side) const {
        const Config& config = context_.config;
        Endpoint endpoint = side == Side::source ? config.source : config.target;
        endpoint.connect_timeout =
            std::min(endpoint.connect_timeout, config.latest()->mirror.connect_timeout);
        return Connection::open(endpoint, "banyan-repair");
    }

    void disconnect() {
        rows_.reset();
        primary_.reset();
        mirror_.reset();
    }

    // --- a batch ---

    // False if a connection broke.
    bool repair(const std::vector<DirtyKey>& keys, const Catalog& catalog) {
        std::vector<const DirtyKey*> done;
        bool connected = true;
        for (const DirtyKey& dirty : keys) {
            if (interrupted()) {
                break;  // the keys left stay where they are in the queue
            }
            const auto table = catalog.table_by_id(dirty.key.table);
            if (!table || !table->captured() ||
                split_key(dirty.key.bytes).size() != table->key.size()) {
                give_up(dirty);
                continue;
            }
            if (!connected) {
                requeue(dirty);
                continue;
            }
            switch (rows_->repair(*table, dirty.key)) {
                case RowRepair::Verdict::repaired:
                    done.push_back(&dirty);
                    break;
                case RowRepair::Verdict::lost:
                    connected = false;
                    requeue(dirty);
                    break;
                case RowRepair::Verdict::failed:
                    note(table->display_name() + ": " + rows_->why());
                    requeue(dirty);
                    // A mirror that takes no writes would refuse every key, over and over.
                    if (const auto fault = rows_->fault()) {
                        context_.breaker.failed(*fault, rows_->why());
                    }
                    break;
                case RowRepair::Verdict::conflict:
                    // Only now and then is this an error: if the other row never gives way.
                    if (dirty.attempts > 8) {
                        note(rows_->why());
                    }
                    requeue(dirty);
                    break;
                case RowRepair::Verdict::busy:
                    ++busy_;
                    requeue(dirty);
                    break;
            }
        }
        if (connected && !done.empty()) {
            const auto flushed = rows_->flush();
            if (!flushed) {
                note(flushed.error().message);
            }
            connected = flushed.has_value();
        }
        sync_point(SyncPoint::repair_batch);
        for (const DirtyKey* dirty : done) {
            if (connected) {
                context_.ledger.clear_dirty(dirty->key, dirty->generation);
                repaired_.fetch_add(1, std::memory_order_relaxed);
            } else {
                requeue(*dirty);  // perhaps not flushed
            }
        }
        if (!connected) {
            lost();
        } else if (!done.empty()) {
            context_.breaker.succeeded();
            note("");
        }
        return connected;
    }

    bool interrupted() const {
        const std::lock_guard guard(mutex_);
        return stopping_ || paused_;
    }

    void requeue(const DirtyKey& dirty) {
        context_.ledger.requeue(dirty.key, backoff(dirty.attempts));
        requeued_.fetch_add(1, std::memory_order_relaxed);
    }

    // The table was dropped or can no longer be captured: its keys mean nothing, and what they
    // stood for is a suspicion on the table. The mark is submitted first, so it is durable no
    // later.
    void give_up(const DirtyKey& dirty) {
        context_.ledger.mark_suspect({{dirty.key.table, "not_repairable"}});
        context_.ledger.clear_dirty(dirty.key, dirty.generation);
    }

    void lost() {
        if (mirror_ && !mirror_->alive()) {
            context_.breaker.failed(MirrorFault::unreachable, "repair's connection broke");
        }
        note(rows_ && !rows_->why().empty() ? rows_->why() : "a connection broke");
        disconnect();
    }

    void note(const std::string& error) {
        const std::lock_guard guard(mutex_);
        if (error_ != error && !error.empty()) {
            spdlog::warn("repair: {}", error);
        }
        error_ = error;
    }

    // --- transactions whose outcome is unknown ---

    // False if a connection broke.
    bool settle_limbo() {
        for (const auto& [txn, backends] : context_.ledger.limbo()) {
            const milliseconds age = context_.ledger.limbo_age(txn);
            bool gone = true;
            for (const LimboBackend& backend : backends) {
                auto still_there = lingers(backend, age);
                if (!still_there) {
                    note(still_there.error().message);
                    if (!primary_->alive() || !mirror_->alive()) {
                        lost();
                        return false;
                    }
                }
                gone = gone && still_there && !*still_there;
            }
            if (gone) {
                sync_point(SyncPoint::limbo_gone);
                context_.ledger.resolve_limbo(txn);
            }
        }
        return true;
    }

    // A backend that began after the loss has only inherited the process id. Its start is hidden
    // from a role without pg_monitor: then it counts as the same one.
    Result<bool> lingers(const LimboBackend& backend, milliseconds age) {
        if (backend.process_id == 0) {
            return age < unknown_backend_wait;
        }
        const std::string same =
            " FROM pg_stat_activity WHERE pid = $1::int AND (backend_start IS NULL OR"
            " backend_start <= clock_timestamp() - $2::bigint * interval '1 millisecond')";
        const std::vector<Param> params = {Param::number(backend.process_id),
                                           Param::number(age.count())};
        auto rows = on(backend.side).exec("SELECT 1" + same, params);
        if (!rows) {
            return std::move(rows).error();
        }
        if (rows->size() == 0) {
            return false;
        }
        if (age > linger_limit) {
            auto ended = on(backend.side).exec("SELECT pg_terminate_backend(pid)" + same, params);
            if (!ended) {
                return std::move(ended).error();
            }
        }
        return true;
    }

    RepairContext context_;
    mutable std::mutex mutex_;  // stopping_, paused_, working_, error_, thread_
    std::condition_variable changed_;
    bool stopping_ = false;
    bool paused_ = false;
    bool working_ = false;
    std::string error_;
    std::thread thread_;
    RepairPace pace_;  // under mutex_

    // The worker's own.
    std::uint64_t busy_ = 0;  // rows of the batch that others had locked
    bool waits_ = false;
    Side primary_side_ = Side::source;
    std::uint64_t catalog_version_ = 0;
    std::optional<Connection> primary_;
    std::optional<Connection> mirror_;
    std::optional<RowRepair> rows_;
};

Repair::Repair(RepairContext context) : impl_(std::make_unique<Impl>(std::move(context))) {}
Repair::~Repair() {
    stop();
}
void Repair::start() {
    impl_->start();
}
void Repair::stop() {
    impl_->stop();
}
void Repair::pause() {
    impl_->pause();
}
void Repair::resume() {
    impl_->resume();
}
std::uint64_t Repair::repaired() const {
    return impl_->repaired_;
}
std::uint64_t Repair::requeued() const {
    return impl_->requeued_;
}
RepairProgress Repair::progress() const {
    return impl_->progress();
}
std::string Repair::last_error() const {
    return impl_->last_error();
}

}  // namespace banyan::router
