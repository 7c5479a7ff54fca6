// Verifications: the queue that operators fill (one at a time, one table after another), and the
// resolver that by itself verifies suspect tables, with repair, until they are equal and the
// suspicion can be cleared. The last result of each table is durable, for the gates.
#pragma once

#include <atomic>
#include <boost/json.hpp>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "router/migration/core.hpp"
#include "router/migration/gates.hpp"
#include "router/sync/verify.hpp"

namespace banyan::router {

boost::json::object to_json(const TableVerification& result);

class Verifier {
   public:
    /// `backfill_done_unix_ms` names the backfill that has ended, 0: none has. Before that suspect
    /// tables are not worth a look.
    Verifier(Core& core, std::function<std::int64_t()> backfill_done_unix_ms);
    ~Verifier();
    void start();
    void stop();

    /// The new verification, or an Error naming the table that is not known.
    Result<boost::json::object> create(const std::vector<std::string>& tables, bool repair,
                                       const std::string& actor);
    /// Nullopt: no such one.
    std::optional<boost::json::object> stop_one(const std::string& id);
    boost::json::array all() const;
    std::optional<boost::json::object> one(const std::string& id) const;
    /// The id of the one running, or empty.
    std::string running() const;

    /// Each captured table with its last result, if that verification began after the backfill of
    /// this name had ended.
    std::vector<VerifiedTable> verified(const Catalog& catalog, std::int64_t backfill_unix_ms) const;
    std::map<TableId, boost::json::object> results() const;

    /// Stops what runs and starts nothing until resume(): a flip is near. Does not wait.
    void interrupt();
    void resume();
    /// Mirroring ended: all results are void.
    void forget();

   private:
    struct Job {
        std::int64_t number = 0;
        std::string state = "queued";
        bool repair = false;
        std::string actor;
        std::int64_t created_unix_ms = 0;
        std::int64_t started_unix_ms = 0;
        std::int64_t finished_unix_ms = 0;
        std::vector<TableVerification> tables;
        std::shared_ptr<std::atomic<bool>> cancel = std::make_shared<std::atomic<bool>>(false);
    };
    static std::string id_of(const Job& job);
    static boost::json::object to_json(const Job& job);
    static std::string overall(const Job& job);
    Job* find_locked(const std::string& id);

    void work();
    void run(Job& job, std::unique_lock<std::mutex>& lock);
    void resolve();
    bool resolve_one(const SuspectTable& suspect);
    enum class Scope : std::uint8_t { table, suspect_rows };
    TableVerification verify(const Table& table, Scope scope, bool repair,
                             const std::function<void(const TableVerification&)>& progress,
                             const std::atomic<bool>& cancel);
    void remember(const TableVerification& result, std::int64_t backfill_unix_ms);

    Core& core_;
    const std::function<std::int64_t()> backfill_done_unix_ms_;
    const VerifyContext context_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::unique_ptr<Job>> jobs_;  ///< oldest first
    std::int64_t last_number_ = 0;
    std::map<TableId, boost::json::object> results_;
    std::map<TableId, std::chrono::steady_clock::time_point> retry_at_;  ///< resolver's thread only
    std::atomic<bool> cancel_resolver_{false};
    bool interrupted_ = false;
    bool stopping_ = false;
    std::thread worker_;
    std::thread resolver_;
};

}  // namespace banyan::router
