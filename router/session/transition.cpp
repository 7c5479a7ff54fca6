// Taking up directives at a transaction boundary: a new phase, a hold, the flip. What belongs to the
// session is read from the database that has it (pg_settings, pg_prepared_statements), not guessed
// from the statements that went by.

#include <array>

#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

// Set by Banyan itself on a mirror connection (see mirror_setup_sql), or not settable at all.
constexpr std::array<std::string_view, 6> protected_settings = {
    "session_replication_role", "lock_timeout", "statement_timeout",
    "idle_in_transaction_session_timeout", "default_transaction_read_only", "synchronous_commit"};

bool is_protected(std::string_view name) {
    for (const auto setting : protected_settings) {
        if (setting == name) {
            return true;
        }
    }
    return false;
}

// A mirror that the service role logs in to has that role's defaults: what the client's role, its
// startup message and its database have set is then brought along too.
constexpr const char* own_settings = "SELECT 'setting', name, setting FROM pg_catalog.pg_settings "
                                     "WHERE source = 'session'";
constexpr const char* all_settings =
    "SELECT 'setting', name, setting FROM pg_catalog.pg_settings WHERE source IN ('session', "
    "'client', 'user', 'database', 'database user')";
constexpr const char* settings_tail =
    " AND name "
    "NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable') "
    "UNION ALL SELECT 'role', current_user::pg_catalog.text, pg_catalog.current_setting('role') "
    "UNION ALL SELECT 'schema', s::pg_catalog.text, '' FROM "
    "pg_catalog.unnest(pg_catalog.current_schemas(false)) AS s";

constexpr const char* prepared_sql =
    "SELECT name, statement, from_sql::pg_catalog.text, (SELECT pg_catalog.string_agg("
    "t::pg_catalog.oid::pg_catalog.text, ' ') FROM pg_catalog.unnest(parameter_types) AS t) "
    "FROM pg_catalog.pg_prepared_statements WHERE name NOT LIKE 'banyan%'";

constexpr const char* belongings_sql =
    "SELECT 'listen', c FROM pg_catalog.pg_listening_channels() AS c "
    "UNION ALL SELECT 'prepare', statement FROM pg_catalog.pg_prepared_statements WHERE from_sql";

// pg_settings does not show settings of the application's own (SET app.tenant = ...).
std::string custom_settings_sql(const std::set<std::string, std::less<>>& names) {
    std::string list;
    for (const auto& name : names) {
        list += (list.empty() ? "" : ", ") + quote_literal(name);
    }
    return list.empty()
               ? ""
               : " UNION ALL SELECT 'setting', n, pg_catalog.current_setting(n, true) FROM "
                 "pg_catalog.unnest(ARRAY[" +
                     list +
                     "]) AS n "
                     "WHERE pg_catalog.current_setting(n, true) IS NOT NULL";
}

std::string set_config(const std::string& name, const std::string& value) {
    return "SELECT pg_catalog.set_config(" + quote_literal(name) + ", " + quote_literal(value) +
           ", false)";
}

}  // namespace

void SessionMachine::adopt(const Directive& directive) {
    phase_ = directive.phase;
    held_ = directive.hold;
    shadow_ = directive.shadow;
    shadow_share_ = directive.shadow_share;
    adopted_epoch_ = directive.epoch;
    port_.adopted();
}

void SessionMachine::wait_mirror_drained() {
    auto armed = std::make_shared<bool>(false);
    then([this, armed] {
        if (mirror_.drained()) {
            if (*armed) {
                port_.clear_deadline(Deadline::mirror);
                port_.clear_deadline(Deadline::shadow_yield);
            }
            return true;
        }
        if (!*armed) {
            *armed = true;
            port_.set_deadline(Deadline::mirror, mirror_timeout());
            port_.set_deadline(Deadline::shadow_yield, std::chrono::milliseconds(5));
        }
        return false;
    });
}

void SessionMachine::begin_adoption() {
    const Directive next = wanted_;
    mirror_refused_ = false;
    const bool flips = primary_of(next.phase) != primary_;
    if (next.phase == phase_ && !next.hold && !flips) {
        adopt(next);
        return;
    }
    wait_mirror_drained();
    if (next.hold && mirrors(phase_)) {
        // Whatever the flip will need is made ready while nothing waits for it yet.
        wait_mirror_login();
        if (settings_stale_) {
            sync_settings();
        }
        then([this] {
            push_mirror_settings();
            return true;
        });
        wait_mirror_drained();
    }
    if (flips) {
        flip();
    }
    if (mirrors(next.phase) && !mirrors(phase_)) {
        settings_stale_ = true;
        import_prepared();
        then([this] {
            connect_mirror();
            return true;
        });
    } else if (!mirrors(next.phase) && mirrors(phase_)) {
        restore_plain_statements();
        then([this] {
            if (mirror_.state() != MirrorLink::State::down) {
                if (mirror_.ready()) {
                    protocol::encode_terminate(mirror_out());
                }
                on_mirror_lost("mirroring ended", false);
            }
            return true;
        });
    }
    then([this, next] {
        adopt(next);
        return true;
    });
}

// --- settings ---

void SessionMachine::sync_settings() {
    const std::string settings_sql =
        std::string(service_role_possible() ? all_settings : own_settings) + settings_tail +
        custom_settings_sql(custom_settings_);
    internal_query(settings_sql, false, [this](bool ok, const std::vector<Row>& rows) {
        settings_stale_ = false;
        if (ok) {
            apply_settings(rows);
        } else {
            port_.log(3, "could not read the settings of a session of " + user_);
        }
    });
}

void SessionMachine::apply_settings(const std::vector<Row>& rows) {
    std::map<std::string, std::string> settings;
    std::vector<std::string> path;
    std::string role = role_;
    for (const auto& row : rows) {
        if (row.size() != 3 || !row[0] || !row[1]) {
            continue;
        }
        if (*row[0] == "setting") {
            settings[*row[1]] = row[2].value_or("");
        } else if (*row[0] == "schema") {
            path.push_back(*row[1]);
        } else {
            role = *row[1];
            if (row[2] && *row[2] != "none") {
                settings["role"] = *row[2];
            }
        }
    }
    if (path != search_path_ || role != role_) {
        ++decision_generation_;
    }
    search_path_ = std::move(path);
    role_ = std::move(role);
    settings_ = std::move(settings);
}

// Brings the mirror connection's settings up to the client's; outside of transactions only.
void SessionMachine::push_mirror_settings() {
    if (!mirror_.ready() || mirror_.in_transaction() || mirror_settings_ == settings_) {
        return;
    }
    // One by one: a setting that the mirror does not know must not keep the others away.
    for (const auto& [name, value] : mirror_settings_) {
        if (!settings_.contains(name) && !is_protected(name)) {
            mirror_.query("RESET " + quote_identifier(name), mirror_out());
        }
    }
    for (const auto& [name, value] : settings_) {
        const auto applied = mirror_settings_.find(name);
        if (!is_protected(name) && (applied == mirror_settings_.end() || applied->second != value)) {
            mirror_.query(set_config(name, value), mirror_out());
        }
    }
    mirror_settings_ = settings_;
}

// --- prepared statements ---

// A session that was relayed so far: what it has prepared is asked of the server.
void SessionMachine::import_prepared() {
    internal_query(prepared_sql, false, [this](bool, const std::vector<Row>& rows) {
        for (const auto& row : rows) {
            if (row.size() != 4 || !row[0] || !row[1] || row[2] == "true") {
                continue;  // SQL-level PREPARE: its EXECUTE is measured, not rewritten
            }
            auto prepared = std::make_shared<Prepared>();
            prepared->sql = *row[1];
            const std::string types = row[3].value_or("");
            std::size_t at = 0;
            while (at < types.size()) {
                std::size_t used = 0;
                prepared->types.push_back(
                    static_cast<std::uint32_t>(std::stoul(types.substr(at), &used)));
                at += used + 1;
            }
            prepared->form = Prepared::Form::plain;
            statements_[*row[0]] = std::move(prepared);
        }
    });
    if (const auto parse = protocol::decode_parse(relay_unnamed_)) {
        auto prepared = std::make_shared<Prepared>();
        prepared->sql = parse->query;
        prepared->types = parse->parameter_types;
        prepared->form = Prepared::Form::plain;
        statements_[""] = std::move(prepared);
    }
    std::string().swap(relay_unnamed_);
}

// Back to a plain relay: a rewritten statement would show the client columns it never asked for.
// Each has a Sync of its own: one that cannot be prepared any more, its table being gone, must not
// keep the others from it. Nobody asked for these answers, so no error is the client's.
void SessionMachine::restore_plain_statements() {
    bool sent = false;
    for (auto& [name, prepared] : statements_) {
        if (prepared->form == Prepared::Form::plain) {
            continue;
        }
        std::string message;
        if (prepared->form == Prepared::Form::captured) {
            protocol::encode_close(message, 'S', name);
            send_primary(message, Expect::close, unseen());
            message.clear();
        }
        protocol::encode_parse(message, name, prepared->sql, prepared->types);
        send_primary(message, Expect::parse, unseen());
        message.clear();
        protocol::encode_sync(message);
        send_primary(message, Expect::sync, unseen());
        sent = true;
    }
    if (sent) {
        wait_primary();
    }
    then([this] {
        statements_.clear();
        return true;
    });
}

// --- the flip ---

void SessionMachine::flip() {
    then([this] {
        connect_mirror();
        return true;
    });
    then([this] { return mirror_.ready() || mirror_.state() == MirrorLink::State::down; });
    wait_mirror_drained();
    then([this] {
        if (!mirror_.ready()) {
            fail_session("57P01", "terminating connection: the migration switched over and this "
                                  "session has no connection to the new primary");
            return true;
        }
        if (mirror_.assumes_role()) {
            // Its authenticated user is the service role: RESET SESSION AUTHORIZATION would give
            // the client that role's rights.
            port_.log(3, "session of " + user_ + " ended at the flip: only the service role is "
                         "logged in to the new primary for it");
            fail_session("57P01", "terminating connection: the migration switched over, and only "
                                  "Banyan's service role is logged in to the new primary",
                         "Connect again. With an entry in [[users]] for this role the session "
                         "would have been kept.");
            return true;
        }
        if (settings_stale_) {
            sync_settings();
        }
        internal_query(belongings_sql, false, [this](bool, const std::vector<Row>& rows) {
            std::vector<std::string> commands;
            for (const auto& row : rows) {
                if (row.size() == 2 && row[0] == "listen") {
                    commands.push_back("LISTEN " + quote_identifier(row[1].value_or("")));
                } else if (row.size() == 2) {
                    commands.push_back(row[1].value_or(""));
                }
            }
            push_mirror_settings();
            trade_places(commands);
        });
        return true;
    });
}

// The connections trade places. From here on the former mirror is the primary.
void SessionMachine::trade_places(const std::vector<std::string>& commands) {
    wait_mirror_drained();
    then([this, commands] {
        if (!mirror_.ready() || mirror_.assumes_role()) {
            fail_session("57P01", "terminating connection: the new primary was lost during the "
                                  "switchover");
            return true;
        }
        const auto former = primary_key_;
        primary_key_ = {mirror_.process_id(), mirror_.secret_key()};
        primary_ = other(primary_);
        mirror_.adopt(former.first, former.second);
        mirror_login_ = MirrorLogin::client;
        mirror_settings_ = settings_;
        for (auto& [name, prepared] : statements_) {
            prepared->form = Prepared::Form::none;
            prepared->decided_generation = 0;
            prepared->shadow_name.clear();
        }
        ++decision_generation_;
        // Whatever stands prepared there is from another time; the client's are prepared anew when
        // they are next used.
        std::string sql = "DEALLOCATE ALL; ";
        for (const auto setting : protected_settings) {
            const auto own = settings_.find(std::string(setting));
            sql += own == settings_.end() ? "RESET " + std::string(setting)
                                          : set_config(own->first, own->second);
            sql += "; ";
        }
        for (const auto& command : commands) {
            sql += command + "; ";
        }
        std::string message;
        protocol::encode_query(message, sql);
        send_primary(message, Expect::query,
                     on_reply([this](char type, std::string_view, std::string_view) {
                         if (type == 'E') {
                             port_.log(3, "a session's belongings could not all be moved to the "
                                          "new primary");
                         }
                     }));
        mirror_.query(mirror_setup_sql(), mirror_out());
        wait_primary();
        return true;
    });
}

}  // namespace banyan::router
