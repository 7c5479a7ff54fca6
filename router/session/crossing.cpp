// What a session owns when primary and mirror trade places: asked of the present primary, brought
// to the mirror while the session is held, and let go again if the flip does not happen. States and
// failures: CROSSING.md.

#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

// A mirror that the service role logs in to has that role's defaults: what the client's role, its
// startup message and its database have set is then brought along too.
constexpr const char* own_settings = "SELECT 'setting', name, setting FROM pg_catalog.pg_settings "
                                     "WHERE source = 'session'";
constexpr const char* all_settings =
    "SELECT 'setting', name, setting FROM pg_catalog.pg_settings WHERE source IN ('session', "
    "'client', 'user', 'database', 'database user')";
constexpr const char* settings_tail =
    " AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable') "
    "UNION ALL SELECT 'role', current_user::pg_catalog.text, pg_catalog.current_setting('role') "
    "UNION ALL SELECT 'session_user', session_user::pg_catalog.text, '' "
    "UNION ALL SELECT 'schema', s::pg_catalog.text, '' FROM "
    "pg_catalog.unnest(pg_catalog.current_schemas(false)) AS s "
    // Temporary relations that hide others of their name: nothing of them may reach the mirror.
    "UNION ALL SELECT 'hides', relname::pg_catalog.text, '' FROM pg_catalog.pg_class "
    "WHERE pg_catalog.pg_my_temp_schema() <> 0 "
    "AND relnamespace = pg_catalog.pg_my_temp_schema() AND relkind NOT IN ('i', 'I', 't') "
    "AND pg_catalog.pg_table_is_visible(oid)";

std::string error_of(std::string_view body) {
    return std::string(protocol::error_field(protocol::decode_error(body), 'M'));
}

std::string quoted(const std::string& name) {
    return "\"" + name + "\"";
}

}  // namespace

// --- what it owns ---

void SessionMachine::note_ran(bool leaves_nothing) {
    belongings_stale_ = true;
    locks_stale_ = locks_stale_ || !leaves_nothing;
}

// In a relay only what begins like SET is looked at: a custom setting cannot be asked for later.
void SessionMachine::note_relayed(std::string_view sql) {
    if (may_set(sql)) {
        note_custom_settings(custom_settings_, *port_.parse(sql.substr(0, sql.find('\0'))));
    }
}

std::string SessionMachine::settings_sql() const {
    return std::string(service_role_possible() ? all_settings : own_settings) + settings_tail +
           custom_settings_sql(custom_settings_);
}

void SessionMachine::sync_settings() {
    internal_query(settings_sql(), false,
                   [this](bool ok, const std::vector<Row>& rows) {
                       settings_stale_ = false;
                       if (ok) {
                           apply_settings(rows);
                       } else {
                           port_.log(3, "could not read the settings of a session of " + user_);
                       }
                   });
}

// One query for settings and belongings, and none if nothing ran since the last one.
void SessionMachine::ask_belongings() {
    if (!settings_stale_ && !belongings_stale_) {
        return;
    }
    std::string sql = settings_sql() + belongings_sql;
    if (locks_stale_) {
        sql += advisory_locks_sql;
    }
    internal_query(sql, false, [this](bool ok, const std::vector<Row>& rows) {
        if (!ok) {
            port_.log(3, "could not read what a session of " + user_ + " owns");
            belongings_.stays = {"what could not be read: the query was refused"};
            return;
        }
        Belongings now;
        if (!locks_stale_) {
            now.locks = std::move(belongings_.locks);
        }
        for (const auto& row : rows) {
            take_owned(now, row, [this](std::string_view text) { return port_.parse(text); });
        }
        belongings_ = std::move(now);
        refused_statements_.clear();
        settings_stale_ = belongings_stale_ = locks_stale_ = false;
        apply_settings(rows);
    });
}

std::vector<std::string> SessionMachine::blocking() const {
    if (stage_ != Stage::ready) {
        return {};
    }
    std::vector<std::string> all = belongings_.stays;
    for (const auto& [name, why] : unsettable_) {
        all.push_back("setting " + quoted(name) + " (the " +
                      std::string(to_string(other(primary_))) + " says: " + why + ")");
    }
    all.insert(all.end(), refused_statements_.begin(), refused_statements_.end());
    all.insert(all.end(), refused_locks_.begin(), refused_locks_.end());
    return all;
}

bool SessionMachine::blocked() const {
    return stage_ == Stage::ready && !(belongings_.stays.empty() && unsettable_.empty() &&
                                       refused_statements_.empty() && refused_locks_.empty());
}

void SessionMachine::end_blocked() {
    std::string what;
    for (const auto& thing : blocking()) {
        what += (what.empty() ? "" : ", ") + thing;
    }
    fail_session("57P01",
                 "terminating connection: the migration moves to the " +
                     std::string(to_string(other(primary_))) +
                     ", and this session owns what cannot be brought along: " + what,
                 "Connect again.");
}

// --- settings ---

void SessionMachine::apply_settings(const std::vector<Row>& rows) {
    std::map<std::string, std::string> settings;
    std::vector<std::string> path;
    std::vector<std::string> hiding;
    std::string role = role_;
    std::string session_user;
    for (const auto& row : rows) {
        if (row.size() != 3 || !row[0] || !row[1]) {
            continue;
        }
        if (*row[0] == "setting") {
            settings[*row[1]] = row[2].value_or("");
        } else if (*row[0] == "schema") {
            path.push_back(*row[1]);
        } else if (*row[0] == "hides") {
            hiding.push_back(*row[1]);
        } else if (*row[0] == "session_user") {
            session_user = *row[1] == user_ ? std::string() : *row[1];
        } else if (*row[0] == "role") {
            role = *row[1];
            if (row[2] && *row[2] != "none") {
                settings["role"] = *row[2];
            }
        }
    }
    if (path != search_path_ || role != role_ || hiding != temporary_tables_) {
        ++decision_generation_;
    }
    txn_.settings_touched = txn_.settings_touched || hiding != temporary_tables_;
    search_path_ = std::move(path);
    temporary_tables_ = std::move(hiding);
    role_ = std::move(role);
    session_user_ = std::move(session_user);
    settings_ = std::move(settings);
}

// One by one: a setting that the mirror does not know must not keep the others away.
void SessionMachine::set_on_mirror(const std::string& name, const std::string& sql) {
    unsettable_.erase(name);
    mirror_.ask(
        sql,
        [this, name](char type, std::string_view body) {
            if (type == 'E') {
                unsettable_[name] = error_of(body);
            }
        },
        mirror_out());
}

// Brings the mirror connection's settings up to the client's; outside of transactions only.
void SessionMachine::push_mirror_settings() {
    if (!mirror_.ready() || mirror_.in_transaction() ||
        (mirror_settings_ == settings_ && mirror_session_user_ == session_user_)) {
        return;
    }
    // As the login role: another may not be allowed to set what it has set.
    leave_identity_on_mirror();
    for (const auto& [name, value] : mirror_settings_) {
        if (!settings_.contains(name) && !is_protected_setting(name)) {
            unsettable_.erase(name);
            mirror_.query("RESET " + quote_identifier(name), mirror_out());
        }
    }
    for (const auto& [name, value] : settings_) {
        const auto applied = mirror_settings_.find(name);
        if (name != "role" && !is_protected_setting(name) &&
            (applied == mirror_settings_.end() || applied->second != value)) {
            set_on_mirror(name, set_config_sql(name, value));
        }
    }
    for (const auto& [name, sql] : identity_sql()) {
        set_on_mirror(name, sql);
    }
    mirror_settings_ = settings_;
    mirror_session_user_ = session_user_;
}

void SessionMachine::leave_identity_on_mirror() {
    if (!mirror_session_user_.empty()) {
        // The service role's own rights are never the client's.
        mirror_.query(mirror_.assumes_role()
                          ? "SET SESSION AUTHORIZATION " + quote_identifier(user_)
                          : "RESET SESSION AUTHORIZATION",
                      mirror_out());
        mirror_session_user_.clear();
    }
    if (mirror_settings_.erase("role") != 0) {
        mirror_.query("SET ROLE NONE", mirror_out());
    }
    unsettable_.erase("role");
    unsettable_.erase("session_authorization");
}

// In this order: a new session authorization forgets the role.
std::vector<std::pair<std::string, std::string>> SessionMachine::identity_sql() const {
    std::vector<std::pair<std::string, std::string>> sql;
    if (!session_user_.empty()) {
        sql.emplace_back("session_authorization",
                         "SET SESSION AUTHORIZATION " + quote_identifier(session_user_));
    }
    if (const auto role = settings_.find("role"); role != settings_.end()) {
        sql.emplace_back("role", set_config_sql("role", role->second));
    }
    return sql;
}

// --- bringing it along ---

// Everything that may fail, done on the mirror while the session is held and nothing is decided.
void SessionMachine::carry() {
    if (carried_ || !mirror_.ready()) {
        return;
    }
    carried_ = true;
    refused_statements_.clear();
    refused_locks_.clear();
    push_mirror_settings();
    if (!belongings_.locks.empty()) {
        mirror_.ask(
            try_locks_sql(belongings_.locks),
            [this](char type, std::string_view body) {
                std::vector<std::optional<std::string_view>> columns;
                if (type == 'E') {
                    refused_locks_.push_back("its advisory locks (" + error_of(body) + ")");
                } else if (type == 'D' && protocol::decode_data_row(body, columns) &&
                           columns.size() == 2 && columns[1] != "t") {
                    refused_locks_.push_back(std::string(columns[0].value_or("")) +
                                             " (held by another connection to the " +
                                             std::string(to_string(other(primary_))) + ")");
                }
            },
            mirror_out());
    }
    for (const auto& statement : belongings_.statements) {
        mirror_.ask(
            statement.sql,
            [this, name = statement.name](char type, std::string_view body) {
                if (type == 'E') {
                    refused_statements_.push_back("prepared statement " + quoted(name) + " (the " +
                                                  std::string(to_string(other(primary_))) +
                                                  " says: " + error_of(body) + ")");
                }
            },
            mirror_out());
        mirror_.query("DEALLOCATE " + quote_identifier(statement.name), mirror_out());
    }
    // Ahead of the flip: the first session on the new primary may notify this one at once.
    for (const auto& channel : belongings_.channels) {
        mirror_.query("LISTEN " + quote_identifier(channel), mirror_out());
        listens_on_mirror_ = true;
    }
}

// The flip did not come: what was taken on the mirror must not stand in another's way.
void SessionMachine::release_carried() {
    if (!carried_) {
        return;
    }
    carried_ = false;
    refused_locks_.clear();
    if (mirror_.ready() && !belongings_.locks.empty()) {
        mirror_.query("SELECT pg_catalog.pg_advisory_unlock_all()", mirror_out());
    }
    if (mirror_.ready() && listens_on_mirror_) {
        mirror_.query("UNLISTEN *", mirror_out());
    }
    listens_on_mirror_ = false;
}

void SessionMachine::forget_mirror_state() {
    mirror_settings_.clear();
    mirror_session_user_.clear();
    unsettable_.clear();
    refused_locks_.clear();
    carried_ = listens_on_mirror_ = false;
}

// --- prepared statements named in SQL ---

// Wire-level statements stand on the primary only as they are used; EXECUTE and DEALLOCATE name
// them in SQL, and mean what the client sent.
std::vector<std::string> SessionMachine::named_in_sql(const ParsedQuery& query) const {
    std::vector<std::string> names;
    for (const auto& statement : query.statements) {
        if (statement.kind != StatementKind::execute &&
            statement.kind != StatementKind::deallocate) {
            continue;
        }
        const auto found = statements_.find(statement.name);
        if (!statement.name.empty() && found != statements_.end() &&
            found->second->form != Prepared::Form::plain) {
            names.push_back(statement.name);
        }
    }
    return names;
}

void SessionMachine::stand_plain(const std::vector<std::string>& names) {
    const auto unseen = [] { return on_reply([](char, std::string_view, std::string_view) {}); };
    std::string message;
    for (const auto& name : names) {
        auto& prepared = *statements_[name];
        if (prepared.form != Prepared::Form::none) {
            message.clear();
            protocol::encode_close(message, 'S', name);
            send_primary(message, Expect::close, unseen());
        }
        message.clear();
        protocol::encode_parse(message, name, prepared.sql, prepared.types);
        send_primary(message, Expect::parse, unseen());
        prepared.form = Prepared::Form::plain;
    }
}

// A statement that goes on as it is, but leaves something that the session must know of.
bool SessionMachine::leaves_traces(const Statement& statement) {
    return statement.kind == StatementKind::deallocate ||
           statement.kind == StatementKind::rollback_prepared;
}

ReplyHandler SessionMachine::trace_watch(const Prepared& prepared) {
    if (!prepared.parsed || prepared.parsed->statements.size() != 1 ||
        !leaves_traces(prepared.parsed->statements.front())) {
        return nullptr;
    }
    return statement_watch(prepared.decision, prepared.parsed, 0);
}

}  // namespace banyan::router
