// What a session owns on its primary besides settings and wire-level prepared statements: what can
// be brought along when primary and mirror trade places, and what cannot. Pure: the SQL that asks,
// what its rows mean, and the SQL that brings things along. States and failures: CROSSING.md.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/model/types.hpp"
#include "router/sql/statement.hpp"

namespace banyan::router {

struct Belongings {
    /// A statement of SQL-level PREPARE.
    struct Prepared {
        std::string name;
        std::string sql;  ///< "PREPARE name AS ..."
    };
    std::vector<std::string> channels;  ///< LISTEN
    std::vector<Prepared> statements;
    std::vector<AdvisoryLock> locks;  ///< held by the session, not by a transaction
    /// What must stay behind, named for a person: temporary tables, cursors WITH HOLD, ...
    std::vector<std::string> stays;
};

/// Appended to the query that reads a session's settings: rows of kind, name, value.
extern const char* const belongings_sql;
/// The same for advisory locks, apart because pg_locks reads every backend's.
extern const char* const advisory_locks_sql;

using OwnedRow = std::vector<std::optional<std::string>>;
using Parser = std::function<std::shared_ptr<const ParsedQuery>(std::string_view)>;

/// Takes one row of those queries; rows of other kinds are left alone (false).
bool take_owned(Belongings& belongings, const OwnedRow& row, const Parser& parse);

/// Tries to take the locks: rows of description and 't' or 'f'. Several statements.
std::string try_locks_sql(const std::vector<AdvisoryLock>& locks);

}  // namespace banyan::router
