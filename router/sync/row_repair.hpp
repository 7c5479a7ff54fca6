// Brings the mirror's row of one dirty key to the primary's committed state: R12 and R6 of
// router/sync/REPAIR.md, where the order of the steps is argued.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "router/breaker/mirror_fault.hpp"
#include "router/catalog/catalog.hpp"
#include "router/pg/connection.hpp"
#include "router/state/ledger.hpp"

namespace banyan::router {

class RowRepair {
   public:
    enum class Verdict : std::uint8_t {
        repaired,  ///< committed on the mirror, though perhaps not flushed: see flush()
        busy,      ///< someone else has the row; try again
        conflict,  ///< another row of the mirror has this row's unique value; try again later
        failed,    ///< the statement failed: why() says how
        lost,      ///< a connection broke
    };

    /// The connections were prepared by prepare_primary() and prepare_mirror(). All outlive this.
    RowRepair(Connection& primary, Connection& mirror, Ledger& ledger)
        : primary_(primary), mirror_(mirror), ledger_(ledger) {}

    static Result<void> prepare_primary(Connection& primary);
    static Result<void> prepare_mirror(Connection& mirror, std::chrono::milliseconds lock_timeout);

    /// Leaves no transaction open.
    Verdict repair(const Table& table, const RowKey& key);
    /// Makes every commit on the mirror so far as durable as the mirror makes any commit.
    Result<void> flush();
    const std::string& why() const { return why_; }
    /// What the last Verdict::failed says about the mirror, if it was the mirror's.
    std::optional<MirrorFault> fault() const { return fault_; }

   private:
    struct Statements {
        std::string prefix;  // of the prepared statements' names
        std::vector<std::size_t> image;
        bool updates = true;             // there is a column that UPDATE may set
        bool compares_identity = false;  // UPDATE touches no row if such a column differs
        bool filtered = false;           // behind the image the primary says if the row passes
    };

    Result<const Statements*> statements(const Table& table);
    static std::string read_sql(const Table& table, const Statements& made);
    Verdict locked(const Statements& known, const RowKey& key, const std::vector<Param>& key_params,
                   bool in_flight);
    enum class MirrorRow : std::uint8_t { none, ours, foreign };  // foreign: the mapping leaves it alone
    Verdict write(const Statements& known, const std::vector<Param>& key_params, MirrorRow there,
                  const std::optional<std::vector<Param>>& image);
    Verdict make_way(const Table& table, const Statements& known, const RowKey& key,
                     const std::vector<Param>& key_params);
    Result<std::vector<RowKey>> conflicting_keys(const Table& table, const Statements& known,
                                                 const RowKey& key, const std::string& constraint);
    Verdict verdict_of(const Error& error);
    Verdict verdict_of_primary(const Error& error);

    Connection& primary_;
    Connection& mirror_;
    Ledger& ledger_;
    std::unordered_map<TableId, Statements> statements_;
    std::vector<Param> image_;  // of the row read last from the primary
    std::string violated_;      // the unique constraint that write() ran into
    std::string why_;
    std::optional<MirrorFault> fault_;
};

}  // namespace banyan::router
