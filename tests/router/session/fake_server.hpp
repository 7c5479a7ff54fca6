// A PostgreSQL server as a session sees one: answers every message as the protocol demands, with
// results that a test has set by statement text. It keeps back what PostgreSQL keeps back (answers
// in the extended protocol until Flush or Sync, errors aside), so that a missing Flush hangs here as
// it would there; it ignores messages up to Sync after an error, and swallows Sync during COPY.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "message_text.hpp"
#include "tests/protocol/scram_server.hpp"

namespace banyan::test {

using Values = std::vector<std::optional<std::string>>;

/// How statements that contain a given text are answered.
struct Reply {
    explicit Reply(std::vector<std::string> columns_ = {}, std::vector<Values> rows_ = {},
                   std::string tag_ = {})
        : columns(std::move(columns_)), rows(std::move(rows_)), tag(std::move(tag_)) {}

    std::vector<std::string> columns;
    std::vector<Values> rows;
    std::string tag;              ///< empty: by the statement's first word
    std::string error;            ///< SQLSTATE; empty: it succeeds
    bool error_in_parse = false;  ///< already Parse is refused
    std::size_t position = 0;     ///< of the error
    bool copy_in = false;
    /// So many statements (of the extended protocol: Parse and Execute count each) go by first.
    int passes = 0;
};

inline Reply refusal(std::string sqlstate, std::size_t position = 0, bool in_parse = false) {
    Reply reply;
    reply.error = std::move(sqlstate);
    reply.position = position;
    reply.error_in_parse = in_parse;
    return reply;
}
inline Reply copy_in() {
    Reply reply;
    reply.copy_in = true;
    return reply;
}

class FakeServer {
   public:
    FakeServer(std::string name, std::uint32_t process_id, Lines& events)
        : name_(std::move(name)), process_id_(process_id), events_(events) {
        settings({});
        on("pg_stat_xact_user_tables", Reply({"relid", "count"}, {{"clock", "1"}}));
        on("current_setting('client_encoding')",
           Reply({"client_encoding", "DateStyle", "IntervalStyle", "TimeZone",
                  "timezone_abbreviations", "array_nulls", "xmloption"},
                 {{"UTF8", "ISO, MDY", "postgres", "UTC", "Default", "on", "content"}}));
        on("pg_prepared_statements WHERE name", Reply({"name", "statement", "sql", "types"}));
    }

    /// The newest rule that fits a statement answers it.
    void on(std::string part, Reply reply) { rules_.emplace_back(std::move(part), std::move(reply)); }
    /// What the session has set, as pg_settings shows it.
    void settings(std::vector<Values> rows) {
        settings_ = std::move(rows);
        if (std::none_of(settings_.begin(), settings_.end(),
                         [](const Values& row) { return row[0] == "role"; })) {
            settings_.push_back({"role", "app", "none"});
        }
        settings_.push_back({"schema", "public", ""});
        on("FROM pg_catalog.pg_settings", Reply({"kind", "name", "setting"}, settings_));
        owns(owned_);
    }
    /// What the session owns besides: kind, name, value.
    void owns(std::vector<Values> rows) {
        owned_ = std::move(rows);
        auto all = settings_;
        all.insert(all.end(), owned_.begin(), owned_.end());
        on("pg_listening_channels", Reply({"kind", "name", "setting"}, std::move(all)));
    }
    /// The next Sync that ends an implicit transaction, or the next COMMIT, fails so.
    std::string commit_error;
    bool wants_password = false;
    /// SCRAM is asked for, with this password; on TLS as PostgreSQL does it there.
    std::optional<std::string> scram_password;
    bool on_tls = false;
    /// Does not report what SET SESSION AUTHORIZATION did.
    bool hides_authorization = false;
    /// Reads nothing and answers nothing while set.
    bool hangs = false;

    /// A new connection: nothing of the former one is left.
    void connected() {
        in_.clear();
        sent_.clear();
        kept_.clear();
        statements_.clear();
        portals_.clear();
        status_ = 'I';
        started_ = logged_in_ = ignoring_ = copy_in_ = false;
        scram_.reset();
        scram_first_.clear();
    }
    void receive(std::string_view bytes) {
        in_.append(bytes);
        total_.append(bytes);
        go_on();
    }
    void go_on() {
        if (!hangs) {
            read();
        }
    }
    /// What the server has sent by now.
    std::string take() { return std::exchange(sent_, {}); }

    /// What it was sent since the last call.
    Lines log() { return std::exchange(log_, {}); }
    const std::string& total() const { return total_; }
    char status() const { return status_; }
    /// A row of the copy data under way is refused.
    void refuse_copy(const std::string& sqlstate) {
        copy_in_ = false;
        fail(sqlstate);
        if (copy_is_simple_) {
            ready();
        } else {
            ignoring_ = true;
        }
    }
    bool copying() const { return copy_in_; }
    bool holds(const std::string& statement) const { return statements_.contains(statement); }

    /// A message the server sends on its own, or out of order.
    void say(std::string_view message) { sent_.append(message); }

   private:
    struct Portal {
        std::string sql;
        std::size_t given = 0;
    };

    void note(std::string line) {
        events_.push_back(name_ + "< " + line);
        log_.push_back(std::move(line));
    }
    void flush() {
        sent_.append(kept_);
        kept_.clear();
    }
    protocol::Message answer(char type) { return {kept_, type}; }
    void ready() {
        protocol::encode_ready_for_query(kept_, status_);
        flush();
    }
    void fail(const std::string& sqlstate, std::size_t position = 0) {
        {
            auto error = answer('E');
            error.byte('S').string("ERROR").byte('V').string("ERROR");
            error.byte('C').string(sqlstate).byte('M').string("scripted");
            if (position != 0) {
                error.byte('P').string(std::to_string(position));
            }
            error.byte('\0');
        }
        flush();
        status_ = status_ == 'I' ? 'I' : 'E';
    }

    void read() {
        if (!logged_in_) {
            log_in();
        }
        while (logged_in_ && in_.size() >= protocol::header_size) {
            const std::size_t size = std::size_t{1} + protocol::get_int32(in_.data() + 1);
            if (size < protocol::header_size) {
                in_.clear();  // PostgreSQL would close
                return;
            }
            if (in_.size() < size) {
                return;
            }
            const std::string message = in_.substr(0, size);
            in_.erase(0, size);
            const auto body = std::string_view(message).substr(protocol::header_size);
            if (!ignoring_ || message[0] == 'S') {
                note(frontend_text(message[0], body));
            }
            handle(message[0], body);
        }
    }

    void log_in() {
        if (!started_) {
            if (in_.size() < 4 || in_.size() < protocol::get_int32(in_.data())) {
                return;
            }
            const std::size_t size = protocol::get_int32(in_.data());
            const auto packet = protocol::decode_startup(protocol::get_int32(in_.data() + 4),
                                                         std::string_view(in_).substr(8, size - 8));
            note("startup " + (packet ? std::string(packet->get("user")) + "@" +
                                            std::string(packet->get("database"))
                                      : "?"));
            in_.erase(0, size);
            started_ = true;
            if (wants_password) {
                answer('R').int32(3);
                flush();
            }
            if (scram_password) {
                scram_.emplace(*scram_password, 4096);
                auto message = answer('R');
                message.int32(10);
                if (on_tls) {
                    message.string("SCRAM-SHA-256-PLUS");
                }
                message.string("SCRAM-SHA-256").byte(0);
            }
            flush();
        }
        if (scram_ && !scram()) {
            return;
        }
        if (wants_password) {
            if (in_.size() < 5 || in_.size() < 1 + protocol::get_int32(in_.data() + 1)) {
                return;
            }
            const std::size_t size = 1 + protocol::get_int32(in_.data() + 1);
            note(frontend_text(in_[0], std::string_view(in_).substr(5, size - 5)));
            in_.erase(0, size);
        }
        logged_in_ = true;
        answer('R').int32(0);
        answer('S').string("server_version").string("15.0");
        answer('K').int32(process_id_).int32(77);
        ready();
    }

    /// One step of the exchange after the other; true once the client has proved itself.
    bool scram() {
        while (in_.size() >= 5 && in_.front() == 'p' &&
               in_.size() >= 1 + protocol::get_int32(in_.data() + 1)) {
            const std::size_t size = 1 + protocol::get_int32(in_.data() + 1);
            protocol::Reader reader(std::string_view(in_).substr(5, size - 5));
            std::string said;
            if (scram_first_.empty()) {
                reader.string();
                reader.int32();
                scram_first_ = reader.rest();
                note("SCRAM " + scram_first_.substr(0, 3));
                if (on_tls && scram_first_.front() == 'y') {
                    fail("28000");
                    return false;
                }
                said = scram_->first(scram_first_);
                in_.erase(0, size);
                answer('R').int32(11).bytes(said);
                flush();
                continue;
            }
            const std::string_view final = reader.rest();
            const std::string binding = scram_first_.front() == 'y' ? "c=eSws," : "c=biws,";
            said = final.starts_with(binding) ? scram_->final_message(final) : "";
            note(said.empty() ? "SCRAM wrong proof" : "SCRAM proof");
            in_.erase(0, size);
            if (said.empty()) {
                fail("28P01");
                return false;
            }
            answer('R').int32(12).bytes(said);
            scram_.reset();
            return true;
        }
        return false;
    }

    const Reply* rule(std::string_view sql) {
        for (auto each = rules_.rbegin(); each != rules_.rend(); ++each) {
            if (sql.find(each->first) == std::string_view::npos) {
                continue;
            }
            if (each->second.passes > 0) {
                --each->second.passes;
            } else {
                return &each->second;
            }
        }
        return nullptr;
    }

    void handle(char type, std::string_view body) {
        if (copy_in_) {
            copy(type);
            return;
        }
        if (ignoring_ && type != 'S') {
            return;
        }
        protocol::Reader reader(body);
        switch (type) {
            case 'Q':
                statements_.erase("");
                simple(std::string(reader.string()));
                break;
            case 'P': {
                const std::string name(reader.string());
                const std::string sql(reader.string());
                const auto* found = rule(sql);
                const bool exists = !name.empty() && statements_.contains(name);
                if (exists || (found != nullptr && found->error_in_parse)) {
                    extended_error(exists ? "42P05" : found->error,
                                   exists ? 0 : found->position);
                    return;
                }
                statements_[name] = sql;
                answer('1');
                break;
            }
            case 'B': {
                const std::string portal(reader.string());
                const auto found = statements_.find(std::string(reader.string()));
                if (found == statements_.end()) {
                    extended_error("26000");
                    return;
                }
                portals_[portal] = {found->second, 0};
                answer('2');
                break;
            }
            case 'D': {
                const bool statement = reader.byte() == 'S';
                described(statement, std::string(reader.string()));
                break;
            }
            case 'E': {
                const std::string portal(reader.string());
                executed(portal, reader.int32());
                break;
            }
            case 'C': {
                const bool statement = reader.byte() == 'S';
                const std::string name(reader.string());
                statement ? statements_.erase(name) : portals_.erase(name);
                answer('3');
                break;
            }
            case 'S':
                if (!ignoring_ && status_ == 'I' && !commit_error.empty()) {
                    fail(std::exchange(commit_error, {}));
                }
                ignoring_ = false;
                portals_.clear();
                ready();
                break;
            case 'H':
                flush();
                break;
            case 'F':
                if (status_ == 'E' || body.empty()) {
                    fail(status_ == 'E' ? "25P02" : "42883");
                } else {
                    answer('V').int32(0xFFFFFFFFU);
                }
                ready();
                break;
            default:
                break;
        }
    }

    void extended_error(const std::string& sqlstate, std::size_t position = 0) {
        fail(sqlstate, position);
        ignoring_ = true;
    }

    void describe_columns(const std::string& sql) {
        const auto* found = rule(sql);
        if (found == nullptr || found->columns.empty()) {
            answer('n');
            return;
        }
        auto message = answer('T');
        message.int16(static_cast<std::uint16_t>(found->columns.size()));
        for (const auto& column : found->columns) {
            message.string(column).int32(0).int16(0).int32(23).int16(4).int32(0xFFFFFFFFU).int16(0);
        }
    }

    void described(bool statement, const std::string& name) {
        std::string sql;
        if (statement) {
            const auto found = statements_.find(name);
            if (found == statements_.end()) {
                extended_error("26000");
                return;
            }
            sql = found->second;
            answer('t').int16(0);
        } else {
            const auto found = portals_.find(name);
            if (found == portals_.end()) {
                extended_error("34000");
                return;
            }
            sql = found->second.sql;
        }
        describe_columns(sql);
    }

    void executed(const std::string& name, std::uint32_t max_rows) {
        const auto found = portals_.find(name);
        if (found == portals_.end()) {
            extended_error("34000");
            return;
        }
        Portal& portal = found->second;
        const auto* reply = rule(portal.sql);
        if (refused(portal.sql, reply)) {
            ignoring_ = true;
            return;
        }
        if (reply != nullptr && reply->copy_in) {
            start_copy(false);
            return;
        }
        std::uint32_t given = 0;
        if (reply != nullptr) {
            while (portal.given < reply->rows.size() && (max_rows == 0 || given < max_rows)) {
                row(reply->rows[portal.given++]);
                ++given;
            }
        }
        if (max_rows != 0 && given == max_rows) {
            answer('s');
        } else {
            complete(portal.sql, reply);
        }
    }

    void simple(const std::string& sql) {
        std::size_t at = 0;
        while (at < sql.size()) {
            const auto end = std::min(sql.find("; ", at), sql.size());
            const std::string statement = sql.substr(at, end - at);
            at = end + 2;
            const auto* reply = rule(statement);
            if (refused(statement, reply)) {
                break;
            }
            if (reply != nullptr && reply->copy_in) {
                start_copy(true);
                return;
            }
            if (reply != nullptr && !reply->columns.empty()) {
                describe_columns(statement);
                for (const auto& values : reply->rows) {
                    row(values);
                }
            }
            complete(statement, reply);
        }
        ready();
    }

    bool refused(const std::string& sql, const Reply* reply) {
        const bool ends = sql.starts_with("ROLLBACK") || sql.starts_with("COMMIT") ||
                          sql.starts_with("PREPARE TRANSACTION");
        if (status_ == 'E' && !ends) {
            fail("25P02");
            return true;
        }
        if (sql.starts_with("COMMIT") && status_ == 'T' && !commit_error.empty()) {
            fail(std::exchange(commit_error, {}));
            status_ = 'I';
            return true;
        }
        if (reply != nullptr && !reply->error.empty()) {
            fail(reply->error, reply->position);
            return true;
        }
        return false;
    }

    void row(const Values& values) {
        auto message = answer('D');
        message.int16(static_cast<std::uint16_t>(values.size()));
        for (const auto& value : values) {
            message.int32(value ? static_cast<std::uint32_t>(value->size()) : 0xFFFFFFFFU);
            message.bytes(value.value_or(""));
        }
    }

    void complete(const std::string& sql, const Reply* reply) {
        std::string tag = sql.substr(0, sql.find_first_of(" ;"));
        if (constexpr std::string_view set = "SET SESSION AUTHORIZATION '";
            sql.starts_with(set) && !hides_authorization) {
            answer('S').string("session_authorization").string(
                sql.substr(set.size(), sql.size() - set.size() - 1));
        }
        const auto rows = std::to_string(reply == nullptr ? 1 : reply->rows.size());
        if (tag == "BEGIN") {
            status_ = 'T';
        } else if (sql.starts_with("ROLLBACK TO")) {
            status_ = 'T';
        } else if (sql.starts_with("PREPARE TRANSACTION")) {
            tag = status_ == 'E' ? "ROLLBACK" : "PREPARE TRANSACTION";
            status_ = 'I';
        } else if (sql.find(" PREPARED ") != std::string::npos) {
            tag += " PREPARED";
        } else if (tag == "COMMIT" || tag == "ROLLBACK") {
            tag = status_ == 'E' ? "ROLLBACK" : tag;
            status_ = sql.ends_with("AND CHAIN") ? 'T' : 'I';
        } else if (tag == "INSERT") {
            tag += " 0 " + rows;
        } else if (tag == "SELECT" || tag == "UPDATE" || tag == "DELETE") {
            tag += " " + rows;
        }
        answer('C').string(reply != nullptr && !reply->tag.empty() ? reply->tag : tag);
    }

    void start_copy(bool simple_query) {
        answer('G').byte(0).int16(0);
        flush();
        copy_in_ = true;
        copy_is_simple_ = simple_query;
    }

    void copy(char type) {
        if (type == 'd' || type == 'S' || type == 'H') {
            return;  // data; Sync and Flush are swallowed
        }
        copy_in_ = false;
        if (type == 'c') {
            answer('C').string("COPY 1");
        } else {
            fail(type == 'f' ? "57014" : "08P01");
        }
        if (copy_is_simple_) {
            ready();
        } else {
            ignoring_ = type != 'c';
        }
    }

    std::optional<ScramServer> scram_;
    std::string scram_first_;
    std::string name_;
    std::uint32_t process_id_;
    Lines& events_;
    Lines log_;
    std::vector<std::pair<std::string, Reply>> rules_;
    std::vector<Values> settings_;
    std::vector<Values> owned_;
    std::map<std::string, std::string> statements_;
    std::map<std::string, Portal> portals_;
    std::string in_;
    std::string total_;
    std::string kept_;
    std::string sent_;
    char status_ = 'I';
    bool started_ = false;
    bool logged_in_ = false;
    bool ignoring_ = false;
    bool copy_in_ = false;
    bool copy_is_simple_ = false;
};

}  // namespace banyan::test
