// What preflight judges, read from one database as one JSON document: nothing here has an opinion.
//
//   {"server": {version_num, version, database, encoding, collate, ctype, system_identifier,
//               in_recovery, read_only, superuser, max_connections, used_connections},
//    "settings": {name: value as a new session of Banyan's role gets it},
//    "extensions": {name: version},
//    "objects": [{"kind", "name", "definition"}],   what makes up the schema, see drift.hpp
//    "tables": [{name, kind, persistence, row_security, rules, triggers: [name], inherits,
//                foreign_actions: [name]}],
//    "collations": [{name, recorded, actual}],      those whose version has changed
//    "roles": {name of one that may log in: may it SET session_replication_role},   from version 15 on
//    "large_objects": n, "prepared": [gid], "long_transactions": [{process_id, user, application,
//                seconds}], "event_triggers": [name], "subscriptions": [name],
//    "errors": {section: message}}                  sections that could not be read are absent
#pragma once

#include <boost/json.hpp>
#include <string>
#include <vector>

#include "router/pg/connection.hpp"

namespace banyan::router {

/// Asks for each section by itself: one that fails is named under "errors". Changes nothing; each
/// query may take 30 s at most. Needs PostgreSQL 11.
boost::json::object preflight_snapshot(Connection& connection);

}  // namespace banyan::router
