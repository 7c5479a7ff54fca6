// Taking up directives at a transaction boundary: a new phase, a hold, the flip. What belongs to the
// session is read from the database that has it (pg_settings, pg_prepared_statements), not guessed
// from the statements that went by.

#include <algorithm>
#include <array>

#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

// Set by Banyan itself on a mirror connection (see mirror_setup_sql), or not settable at all.
constexpr std::array<std::string_view, 6> protected_settings = {
    "session_replication_role", "lock_timeout", "statement_timeout",
    "idle_in_transaction_session_timeout", "default_transaction_read_only", "synchronous_commit"};

constexpr const char* prepared_sql =
    "SELECT name, statement, from_sql::pg_catalog.text, (SELECT pg_catalog.string_agg("
    "t::pg_catalog.oid::pg_catalog.text, ' ') FROM pg_catalog.unnest(parameter_types) AS t) "
    "FROM pg_catalog.pg_prepared_statements WHERE name NOT LIKE 'banyan%'";

}  // namespace

bool SessionMachine::is_protected_setting(std::string_view name) {
    return std::find(protected_settings.begin(), protected_settings.end(), name) !=
           protected_settings.end();
}

std::string SessionMachine::set_config_sql(const std::string& name, const std::string& value) {
    return "SELECT pg_catalog.set_config(" + quote_literal(name) + ", " + quote_literal(value) +
           ", false)";
}

void SessionMachine::adopt(const Directive& directive) {
    phase_ = directive.phase;
    held_ = directive.hold;
    shadow_ = directive.shadow;
    shadow_share_ = directive.shadow_share;
    adopted_epoch_ = directive.epoch;
    if (directive.end_blocked && blocked()) {
        end_blocked();
    }
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
        release_carried();
        if (!next.ask || !mirrors(phase_)) {
            adopt(next);
            return;
        }
        ask_belongings();
        then([this, next] {
            adopt(next);
            return true;
        });
        return;
    }
    wait_mirror_drained();
    if (next.hold && mirrors(phase_)) {
        // Whatever the flip will need is made ready while nothing waits for it yet.
        wait_mirror_login();
        ask_belongings();
        then([this] {
            carry();
            return true;
        });
        wait_mirror_drained();
    }
    if (flips) {
        flip();
    }
    if (mirrors(next.phase) && !mirrors(phase_)) {
        settings_stale_ = belongings_stale_ = locks_stale_ = true;
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
                on_mirror_lost("mirroring ended", std::nullopt, true);
            }
            return true;
        });
    }
    then([this, next] {
        adopt(next);
        return true;
    });
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
        // All done already if the session was held; a login under way owns nothing yet.
        ask_belongings();
        then([this] {
            carry();
            return true;
        });
        wait_mirror_drained();
        then([this] {
            if (!mirror_.ready() || mirror_.assumes_role()) {
                fail_session("57P01", "terminating connection: the new primary was lost during the "
                                      "switchover");
            } else if (blocked()) {
                end_blocked();
            } else {
                trade_places();
            }
            return true;
        });
        return true;
    });
}

// The connections trade places. From here on the former mirror is the primary.
void SessionMachine::trade_places() {
    const auto former = primary_key_;
    primary_key_ = {mirror_.process_id(), mirror_.secret_key()};
    primary_ = other(primary_);
    mirror_.adopt(former.first, former.second);
    mirror_login_ = MirrorLogin::client;
    for (auto& [name, prepared] : statements_) {
        prepared->form = Prepared::Form::none;
        prepared->decided_generation = 0;
        prepared->shadow_name.clear();
    }
    ++decision_generation_;
    query_left_ = false;
    become_primary(become_primary_sql());
    for (const auto& statement : belongings_.statements) {
        become_primary(statement.sql);  // on its own: pg_prepared_statements shows the whole Query
    }
    mirror_settings_ = settings_;
    mirror_session_user_ = session_user_;
    leave_identity_on_mirror();
    // A later flip back must not find currval(), locks or statements of today there.
    std::string clean = "DISCARD SEQUENCES; DEALLOCATE ALL";
    clean += belongings_.locks.empty() ? "" : "; SELECT pg_catalog.pg_advisory_unlock_all()";
    clean += belongings_.channels.empty() ? "" : "; UNLISTEN *";
    mirror_.query(clean, mirror_out());
    mirror_.query(mirror_setup_sql(), mirror_out());
    carried_ = false;
    wait_primary();
    if (listens_on_mirror_) {
        wait_mirror_drained();  // what was notified before may still be on its way
        then([this] {
            listens_on_mirror_ = false;
            return true;
        });
    }
}

void SessionMachine::become_primary(const std::string& sql) {
    std::string message;
    protocol::encode_query(message, sql);
    send_primary(message, Expect::query,
                 on_reply([this](char type, std::string_view body, std::string_view) {
                     if (type == 'E') {
                         // Half moved, it would write with the mirror's settings.
                         const auto fields = protocol::decode_error(body);
                         fail_session("57P01",
                                      "terminating connection: this session could not be moved to "
                                      "the new primary: " +
                                          std::string(protocol::error_field(fields, 'M')),
                                      "Connect again.");
                     }
                 }));
}

// Whatever stands there is from its time as the mirror. The client's wire-level statements are
// prepared anew when they are next used.
std::string SessionMachine::become_primary_sql() const {
    std::string sql = "DEALLOCATE ALL; DISCARD TEMP; ";
    const auto identity = identity_sql();
    if (!identity.empty()) {
        sql += "RESET SESSION AUTHORIZATION; SET ROLE NONE; ";
    }
    for (const auto setting : protected_settings) {
        const auto own = settings_.find(std::string(setting));
        sql += (own == settings_.end() ? "RESET " + std::string(setting)
                                       : set_config_sql(own->first, own->second)) +
               "; ";
    }
    for (const auto& [name, command] : identity) {
        sql += command + "; ";
    }
    return sql;
}

}  // namespace banyan::router
