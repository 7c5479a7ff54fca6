#include "router/migration/lineage.hpp"

#include <boost/json.hpp>

namespace banyan::router {

// The control file's timeline lags behind a promotion until the next checkpoint; the name of the
// WAL file being written does not.
const char* const identity_sql = R"(
SELECT (SELECT system_identifier::text FROM pg_control_system()),
       CASE WHEN r THEN '' ELSE substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8) END,
       CASE WHEN r THEN 0 ELSE pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::int8 END,
       coalesce((SELECT max(backend_start) FROM pg_stat_activity WHERE backend_type = 'checkpointer'),
                pg_postmaster_start_time())::text,
       r,
       (SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only') = 'on'
  FROM (SELECT pg_is_in_recovery() AS r OFFSET 0) AS x)";

ServerIdentity read_identity(const Rows& rows) {
    ServerIdentity it;
    it.system = rows.text(0, 0);
    it.timeline = rows.text(0, 1);
    it.flushed = static_cast<std::uint64_t>(rows.number(0, 2));
    it.incarnation = rows.text(0, 3);
    it.in_recovery = rows.truth(0, 4);
    it.read_only = rows.truth(0, 5);
    return it;
}

std::string_view to_string(ServerChange change) {
    switch (change) {
        case ServerChange::none:
            return "none";
        case ServerChange::restarted:
            return "restarted";
        case ServerChange::failed_over:
            return "failed_over";
        case ServerChange::went_back:
            return "went_back";
        case ServerChange::other_cluster:
            return "other_cluster";
    }
    return "?";
}

ServerChange change(const ServerIdentity& known, const ServerIdentity& now) {
    if (now.in_recovery || known.system.empty()) {
        return ServerChange::none;
    }
    if (known.system != now.system) {
        return ServerChange::other_cluster;
    }
    if (known.timeline != now.timeline) {
        return ServerChange::failed_over;
    }
    if (now.flushed < known.flushed) {
        return ServerChange::went_back;
    }
    return known.incarnation == now.incarnation ? ServerChange::none : ServerChange::restarted;
}

std::string encode(const ServerIdentity& identity) {
    return boost::json::serialize(boost::json::object{{"system", identity.system},
                                                      {"timeline", identity.timeline},
                                                      {"flushed", identity.flushed},
                                                      {"incarnation", identity.incarnation}});
}

std::optional<ServerIdentity> decode_identity(std::string_view text) {
    boost::system::error_code error;
    const auto json = boost::json::parse(text, error);
    if (error || !json.is_object()) {
        return std::nullopt;
    }
    ServerIdentity it;
    const auto& object = json.as_object();
    for (auto [name, field] : {std::pair{"system", &it.system}, std::pair{"timeline", &it.timeline},
                               std::pair{"incarnation", &it.incarnation}}) {
        const auto* value = object.if_contains(name);
        if (value == nullptr || !value->is_string()) {
            return std::nullopt;
        }
        *field = value->as_string();
    }
    const auto* flushed = object.if_contains("flushed");
    if (flushed == nullptr || !flushed->is_number()) {
        return std::nullopt;
    }
    it.flushed = flushed->to_number<std::uint64_t>(error);
    return error ? std::nullopt : std::optional(it);
}

}  // namespace banyan::router
