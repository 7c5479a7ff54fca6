// Parts that decisions are made of; for route.cpp and ddl_route.cpp.
#pragma once

#include "router/session/route.hpp"

namespace banyan::router {

/// A route, and nothing else to say.
Decision simple(Route route);
/// The same, after which no table is trusted.
Decision everything_suspect(Route route, const char* reason);
/// On the primary only; the tables it changes are found out by what it did. Null: without deep capture.
Decision measured(const Catalog* catalog, std::string reason);
/// The statement's text has `word`, which is in lower case, anywhere.
bool mentions(const ParsedQuery& query, const Statement& statement, std::string_view word);

bool is_temporary(const RangeName& name, const RouteContext& context);
/// The mirrored tables a statement names. `context.catalog` must not be null.
std::vector<SuspectMark> named_tables(const Statement& statement, const RouteContext& context,
                                      const char* reason);

/// Some table that it names is mapped (router/catalog/mapping_rule.hpp).
bool names_mapped_table(const Statement& statement, const RouteContext& context);

/// Run on the mirror as text in the same transaction: TRUNCATE, and DDL where it is mirrored.
Decision by_text(const ParsedQuery& query, const Statement& statement, const RouteContext& context,
                 const char* reason);
/// StatementKind::ddl, by the configuration's policy.
Decision schema_change(const ParsedQuery& query, const Statement& statement,
                       const RouteContext& context);
/// StatementKind::concurrent_ddl: what refuses a transaction block cannot be in the mirror's.
Decision concurrent_schema_change(const Statement& statement, const RouteContext& context);

}  // namespace banyan::router
