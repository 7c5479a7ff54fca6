// What a session owns on its primary besides settings and wire-level prepared statements: what can
// be brought along when primary and mirror trade places, and what cannot. Pure: the SQL that asks,
// what its rows mean, and the SQL that brings things along. States and failures: CROSSING.md.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
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

/// Settings such as app.tenant that no view shows: their names, from the statements that may set
/// them (SET, and set_config with a name that can be read). Lower case.
void note_custom_settings(std::set<std::string>& names, const ParsedQuery& query);
/// A parameter of a statement that calls set_config.
void note_custom_setting(std::set<std::string>& names, std::string_view parameter);
bool calls_set_config(const Statement& statement);
/// For the plain relay, where nothing is parsed: whether it begins like one of these statements.
bool may_set(std::string_view sql);
/// Appended to the query that reads a session's settings.
std::string custom_settings_sql(const std::set<std::string>& names);

/// Tries to take the locks: rows of description and 't' or 'f'. Several statements.
std::string try_locks_sql(const std::vector<AdvisoryLock>& locks);

}  // namespace banyan::router
