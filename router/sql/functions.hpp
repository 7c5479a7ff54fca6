// What is known beforehand of PostgreSQL's own functions; users' functions are in the Catalog.
#pragma once

#include <string_view>

namespace banyan::router {

/// Why a call of this pg_catalog function keeps a read from being compared with another server's.
enum class BuiltinNature : unsigned char {
    plain,       ///< same answer on equal data
    per_call,    ///< volatile, or the answer of this server, session or instant
    settings,    ///< reads or writes settings
    runs_query,  ///< runs SQL text that it is given: may do anything
};

/// `function` is unqualified and in lower case.
BuiltinNature builtin_nature(std::string_view function);

/// True if two evaluations in one transaction, one after the other, may differ (provolatile 'v').
/// now() is per_call, but not volatile.
bool builtin_is_volatile(std::string_view function);

/// Aggregates whose result depends on the order of their input.
bool depends_on_order(std::string_view aggregate);

}  // namespace banyan::router
