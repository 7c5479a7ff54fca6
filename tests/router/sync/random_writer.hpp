// A client for the tests of repair: it writes as a session does, and sometimes fails as one does.
#pragma once

#include <future>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "router/state/ledger.hpp"
#include "tests/support/postgres_cluster.hpp"

namespace banyan::test {

/// A client that writes both sides as a session does: images applied on the mirror before COMMIT,
/// the journal before COMMIT, the mirror committed after; and now and then the mirror fails.
class RandomWriter {
   public:
    RandomWriter(const PostgresCluster& source, const PostgresCluster& target, router::Ledger& ledger,
               router::TableId table, unsigned seed)
        : source_(source.connect()),
          target_(target.connect()),
          ledger_(ledger),
          table_(table),
          random_(seed) {
        must(target_.exec("SET session_replication_role = replica; SET lock_timeout = '200ms'"));
        must(source_.exec("SET lock_timeout = '2s'"));
    }

    void transaction() {
        if (!source_.exec("BEGIN") || !target_.exec("BEGIN")) {
            throw std::runtime_error("BEGIN");
        }
        router::CommitIntent intent;
        bool mirror = pick(10) != 0;
        const int statements = 1 + pick(2);
        for (int i = 0; i < statements; ++i) {
            const std::string id = std::to_string(1 + pick(5));
            const std::string value = std::to_string(pick(1000000));
            bool written = false;
            bool removes = false;
            bool dirty = false;
            switch (pick(3)) {
                case 0:
                    written = run("INSERT INTO public.t VALUES (" + id + ", " + value +
                                  ") ON CONFLICT (id) DO UPDATE SET a = excluded.a");
                    break;
                case 1:
                    written = run("UPDATE public.t SET a = " + value + " WHERE id = " + id);
                    break;
                default:
                    written = removes = run("DELETE FROM public.t WHERE id = " + id);
                    break;
            }
            if (failed_) {
                source_.rollback();
                target_.rollback();
                failed_ = false;
                return;
            }
            if (!written) {
                continue;
            }
            if (mirror) {
                auto applied =
                    target_.exec(removes ? "DELETE FROM public.t WHERE id = " + id
                                         : "INSERT INTO public.t VALUES (" + id + ", " + value +
                                               ") ON CONFLICT (id) DO UPDATE SET a = excluded.a");
                mirror = applied.has_value();
                dirty = mirror && removes && applied->affected() == 0;
            }
            router::RowKey row{table_, std::string("\0\0\0\4\0\0\0", 7)};
            row.bytes.push_back(static_cast<char>(std::stoi(id)));
            intent.writes.push_back({std::move(row), removes, dirty});
        }
        if (!mirror) {
            target_.rollback();
        }
        auto answered = std::make_shared<std::promise<void>>();
        const router::TxnId txn =
            ledger_.begin_commit(std::move(intent), [answered](bool) { answered->set_value(); });
        answered->get_future().wait();
        if (pick(12) == 0) {
            source_.rollback();
            target_.rollback();
            ledger_.finish(txn, router::CommitOutcome::rolled_back);
            return;
        }
        must(source_.exec("COMMIT"));
        if (pick(3) == 0) {
            std::this_thread::sleep_for(std::chrono::milliseconds(pick(8)));
        }
        if (mirror && pick(10) == 0) {
            target_.rollback();
            mirror = false;
        }
        if (mirror) {
            must(target_.exec("COMMIT"));
        }
        ledger_.finish(
            txn, mirror ? router::CommitOutcome::mirrored : router::CommitOutcome::not_mirrored);
    }

   private:
    // Whether the statement wrote a row on the primary.
    bool run(const std::string& sql) {
        auto rows = source_.exec(sql);
        failed_ = !rows;  // a lock timeout or a deadlock
        return rows && rows->affected() > 0;
    }
    template <class T>
    static void must(const Result<T>& result) {
        if (!result) {
            throw std::runtime_error(result.error().message);
        }
    }
    int pick(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }

    router::Connection source_;
    router::Connection target_;
    router::Ledger& ledger_;
    router::TableId table_;
    std::minstd_rand random_;
    bool failed_ = false;
};

}  // namespace banyan::test
