#include "router/sql/functions.hpp"

#include <algorithm>
#include <array>
#include <span>

namespace banyan::router {

namespace {

using Words = std::span<const std::string_view>;

bool contains(Words words, std::string_view word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

bool has_prefix(Words prefixes, std::string_view word) {
    return std::any_of(prefixes.begin(), prefixes.end(), [&](std::string_view prefix) {
        return word.substr(0, prefix.size()) == prefix;
    });
}

// From pg_proc of PostgreSQL 15 (provolatile = 'v', trigger and handler functions left out), with
// the contrib modules' well-known ones added; functions_pgtest.cpp compares with a server.
constexpr std::array<std::string_view, 50> volatile_functions = {"random",
                                                                 "random_normal",
                                                                 "setseed",
                                                                 "clock_timestamp",
                                                                 "timeofday",
                                                                 "nextval",
                                                                 "currval",
                                                                 "lastval",
                                                                 "setval",
                                                                 "gen_random_uuid",
                                                                 "gen_random_bytes",
                                                                 "gen_salt",
                                                                 "uuidv4",
                                                                 "uuidv7",
                                                                 "set_config",
                                                                 "current_query",
                                                                 "currtid2",
                                                                 "amvalidate",
                                                                 "txid_status",
                                                                 "loread",
                                                                 "lowrite",
                                                                 "cursor_to_xml",
                                                                 "cursor_to_xmlschema",
                                                                 "query_to_xml",
                                                                 "query_to_xml_and_xmlschema",
                                                                 "query_to_xmlschema",
                                                                 "ts_rewrite",
                                                                 "ts_stat",
                                                                 "crosstab",
                                                                 "crosstab2",
                                                                 "crosstab3",
                                                                 "crosstab4",
                                                                 "connectby",
                                                                 "xpath_table",
                                                                 "normal_rand",
                                                                 "brin_desummarize_range",
                                                                 "brin_summarize_new_values",
                                                                 "brin_summarize_range",
                                                                 "gin_clean_pending_list",
                                                                 "pg_notify",
                                                                 "pg_nextoid",
                                                                 "pg_promote",
                                                                 "pg_xact_status",
                                                                 "pg_jit_available",
                                                                 "txid_current",
                                                                 "txid_current_if_assigned",
                                                                 "txid_current_snapshot",
                                                                 "table_to_xml",
                                                                 "schema_to_xml",
                                                                 "database_to_xml"};

constexpr std::array<std::string_view, 6> volatile_prefixes = {
    "uuid_generate", "lo_", "dblink", "binary_upgrade_", "postgres_fdw_", "pg_"};

// pg_catalog functions called pg_* that answer alike everywhere; all others are taken as per call.
constexpr std::array<std::string_view, 9> plain_pg_functions = {"pg_typeof",
                                                                "pg_column_size",
                                                                "pg_size_pretty",
                                                                "pg_size_bytes",
                                                                "pg_client_encoding",
                                                                "pg_char_to_encoding",
                                                                "pg_encoding_to_char",
                                                                "pg_lsn",
                                                                "pg_column_compression"};

constexpr std::array<std::string_view, 26> session_functions = {"now",
                                                                "statement_timestamp",
                                                                "transaction_timestamp",
                                                                "version",
                                                                "inet_client_addr",
                                                                "inet_client_port",
                                                                "inet_server_addr",
                                                                "inet_server_port",
                                                                "current_database",
                                                                "current_schema",
                                                                "current_schemas",
                                                                "current_user",
                                                                "session_user",
                                                                "getdatabaseencoding",
                                                                "row_security_active",
                                                                "has_table_privilege",
                                                                "has_column_privilege",
                                                                "has_schema_privilege",
                                                                "to_regclass",
                                                                "obj_description",
                                                                "col_description",
                                                                "shobj_description",
                                                                "format_type",
                                                                "txid_snapshot_xmin",
                                                                "txid_snapshot_xmax",
                                                                "txid_visible_in_snapshot"};

constexpr std::array<std::string_view, 2> setting_functions = {"current_setting", "set_config"};

constexpr std::array<std::string_view, 14> query_functions = {
    "query_to_xml",  "query_to_xml_and_xmlschema",
    "cursor_to_xml", "query_to_xmlschema",
    "ts_rewrite",    "ts_stat",
    "crosstab",      "crosstab2",
    "crosstab3",     "crosstab4",
    "connectby",     "xpath_table",
    "schema_to_xml", "database_to_xml"};
constexpr std::array<std::string_view, 1> query_prefixes = {"dblink"};

// Sums of floating-point numbers depend on order too, but their types are not known here.
constexpr std::array<std::string_view, 8> ordered_aggregates = {
    "array_agg",       "string_agg",       "json_agg", "jsonb_agg",
    "json_object_agg", "jsonb_object_agg", "xmlagg",   "first_value"};

}  // namespace

bool builtin_is_volatile(std::string_view function) {
    if (contains(plain_pg_functions, function)) {
        return false;
    }
    return contains(volatile_functions, function) || has_prefix(volatile_prefixes, function);
}

BuiltinNature builtin_nature(std::string_view function) {
    if (contains(setting_functions, function)) {
        return BuiltinNature::settings;
    }
    if (contains(query_functions, function) || has_prefix(query_prefixes, function)) {
        return BuiltinNature::runs_query;
    }
    return builtin_is_volatile(function) || contains(session_functions, function)
               ? BuiltinNature::per_call
               : BuiltinNature::plain;
}

bool depends_on_order(std::string_view aggregate) {
    return contains(ordered_aggregates, aggregate);
}

}  // namespace banyan::router
