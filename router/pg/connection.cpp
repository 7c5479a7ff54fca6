#include "router/pg/connection.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "router/pg/answer.hpp"
#include "router/pg/lifelines.hpp"

namespace banyan::router {
namespace {

using Clock = std::chrono::steady_clock;

// Settings a role, a database or the environment may have changed. Joined with pg_settings so that
// a server which does not know one of them is not an error. search_path comes first, in a statement
// of its own: until then even `=` could mean a stranger's operator.
constexpr const char* fixed_settings = R"(
SET search_path = pg_catalog;
SELECT pg_catalog.set_config(s.name, v.value, false)
  FROM (VALUES ('DateStyle', 'ISO, MDY'), ('IntervalStyle', 'postgres'), ('TimeZone', 'UTC'),
               ('extra_float_digits', '3'), ('bytea_output', 'hex'), ('lc_monetary', 'C'),
               ('standard_conforming_strings', 'on'), ('xmloption', 'content'), ('xmlbinary', 'base64'),
               ('statement_timeout', '0'), ('lock_timeout', '0'), ('transaction_timeout', '0'),
               ('idle_in_transaction_session_timeout', '0'), ('idle_session_timeout', '0'),
               ('default_transaction_isolation', 'read committed'),
               ('default_transaction_read_only', 'off'), ('default_transaction_deferrable', 'off'),
               ('row_security', 'off'),
               ('synchronous_commit', CASE pg_catalog.current_setting('synchronous_commit')
                    WHEN 'off' THEN 'on' ELSE pg_catalog.current_setting('synchronous_commit') END)
       ) AS v(name, value)
  JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = pg_catalog.lower(v.name))";

// libpq's own messages span lines; one line suits a log and an API better.
std::string trimmed(const char* text) {
    std::string message = text == nullptr ? "" : text;
    while (!message.empty() && (message.back() == '\n' || message.back() == ' ')) {
        message.pop_back();
    }
    std::replace(message.begin(), message.end(), '\n', ' ');
    message.erase(std::remove(message.begin(), message.end(), '\t'), message.end());
    return message;
}

// libpq's own connect_timeout knows whole seconds only, and no fewer than two.
Result<void> connect(PGconn* conn, Clock::time_point deadline) {
    PostgresPollingStatusType wanted = PGRES_POLLING_WRITING;
    while (PQstatus(conn) != CONNECTION_BAD && wanted != PGRES_POLLING_OK) {
        if (wanted == PGRES_POLLING_FAILED) {
            break;
        }
        if (!wait_for_socket(conn, wanted == PGRES_POLLING_WRITING, deadline)) {
            return Error{"no answer in time", no_answer};
        }
        wanted = PQconnectPoll(conn);
    }
    if (PQstatus(conn) != CONNECTION_OK) {
        return Error{trimmed(PQerrorMessage(conn)), ""};
    }
    return {};
}

// The parameters in the three parallel arrays that libpq wants.
struct ParamArrays {
    explicit ParamArrays(const std::vector<Param>& params) {
        values.reserve(params.size());
        lengths.reserve(params.size());
        formats.reserve(params.size());
        for (const Param& param : params) {
            values.push_back(param.value ? param.value->c_str() : nullptr);
            lengths.push_back(param.value ? static_cast<int>(param.value->size()) : 0);
            formats.push_back(param.binary ? 1 : 0);
        }
    }
    int count() const { return static_cast<int>(values.size()); }

    std::vector<const char*> values;
    std::vector<int> lengths;
    std::vector<int> formats;
};

}  // namespace

std::int64_t Rows::number(int row, int column) const {
    const std::string_view digits = view(row, column);
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc{} && end == digits.data() + digits.size() ? value : 0;
}

std::int64_t Rows::affected() const {
    const std::string_view digits = PQcmdTuples(result_.get());
    std::int64_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return value;
}

namespace {

void close_connection(PGconn* conn) {
    Lifelines::all().forget(conn);
    PQfinish(conn);
}

}  // namespace

Result<Connection> Connection::open(const Endpoint& endpoint, const std::string& application) {
    const std::string port = std::to_string(endpoint.port);
    constexpr const char* no_file = "/nonexistent";
    // The keepalives bound every wait on a machine that vanished: about 25 seconds.
    const std::array<std::pair<const char*, const char*>, 17> settings = {{
        {"host", endpoint.host.c_str()},
        {"port", port.c_str()},
        {"dbname", endpoint.database.c_str()},
        {"user", endpoint.user.c_str()},
        {"password", endpoint.password.c_str()},
        {"application_name", application.c_str()},
        {"gssencmode", "disable"},
        {"keepalives_idle", "10"},
        {"keepalives_interval", "5"},
        {"keepalives_count", "3"},
        {"tcp_user_timeout", "25000"},
        {"target_session_attrs", "any"},
        {"sslmode", endpoint.sslmode.c_str()},
        // Named even if there is none, or libpq would look in the home directory.
        {"sslrootcert", endpoint.sslrootcert.empty() ? no_file : endpoint.sslrootcert.c_str()},
        {"sslcert", endpoint.sslcert.empty() ? no_file : endpoint.sslcert.c_str()},
        {"sslkey", endpoint.sslkey.empty() ? no_file : endpoint.sslkey.c_str()},
        {"ssl_min_protocol_version", "TLSv1.2"},
    }};
    std::array<const char*, settings.size() + 1> names{};
    std::array<const char*, settings.size() + 1> values{};
    for (std::size_t i = 0; i < settings.size(); ++i) {
        names.at(i) = settings.at(i).first;
        values.at(i) = settings.at(i).second;
    }
    PGconn* conn = PQconnectStartParams(names.data(), values.data(), 0);
    if (conn == nullptr) {
        return Error{"out of memory", ""};
    }
    Connection connection(conn);
    const std::string where = "cannot connect to " + endpoint.host + ":" + port + "/" +
                              endpoint.database + " as " + endpoint.user + ": ";
    const auto deadline = Clock::now() + endpoint.connect_timeout;
    const auto failed = [&](const Error& error) {
        const bool late = error.sqlstate == no_answer;
        return Error{where + (late ? "no answer within " +
                                         std::to_string(endpoint.connect_timeout.count()) + " ms"
                                   : error.message),
                     error.sqlstate};
    };
    if (auto connected = connect(conn, deadline); !connected) {
        return failed(connected.error());
    }
    PQsetNoticeReceiver(
        conn, [](void*, const PGresult*) {}, nullptr);
    // A SQL_ASCII database holds bytes, not characters: any conversion could refuse or change them.
    const char* encoding = PQparameterStatus(conn, "server_encoding");
    const bool raw_bytes = encoding != nullptr && std::strcmp(encoding, "SQL_ASCII") == 0;
    const std::string client_encoding =
        std::string("SET client_encoding = '") + (raw_bytes ? "SQL_ASCII" : "UTF8") + "';";
    if (auto set = exec_until(conn, client_encoding + fixed_settings, deadline); !set) {
        return failed(set.error());
    }
    Lifelines::all().add(conn, endpoint.host, endpoint.port);
    connection.conn_.release();
    connection.conn_ = {conn, &close_connection};
    return connection;
}

Error Connection::last_error(const PGresult* result) const {
    const char* sqlstate =
        result == nullptr ? nullptr : PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char* primary =
        result == nullptr ? nullptr : PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    // The detail is left out: it quotes the application's values.
    std::string message = trimmed(primary != nullptr ? primary : PQerrorMessage(conn_.get()));
    return {message.empty() ? "the connection failed" : std::move(message),
            sqlstate == nullptr ? "" : sqlstate};
}

Result<Rows> Connection::finish(PGresult* result) {
    Rows rows(result);
    constraint_.clear();
    switch (PQresultStatus(result)) {
        case PGRES_TUPLES_OK:
        case PGRES_COMMAND_OK:
        case PGRES_EMPTY_QUERY:
            return rows;
        default:
            break;
    }
    if (const char* name = PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME); name != nullptr) {
        constraint_ = name;
    }
    return last_error(result);
}

Result<Rows> Connection::exec(const std::string& sql) {
    return finish(PQexec(conn_.get(), sql.c_str()));
}

Result<Rows> Connection::exec(const std::string& sql, const std::vector<Param>& params,
                              bool binary_results) {
    const ParamArrays arrays(params);
    return finish(PQexecParams(conn_.get(), sql.c_str(), arrays.count(), nullptr,
                               arrays.values.data(), arrays.lengths.data(), arrays.formats.data(),
                               binary_results ? 1 : 0));
}

Result<void> Connection::prepare(const std::string& name, const std::string& sql) {
    BANYAN_TRY(finish(PQprepare(conn_.get(), name.c_str(), sql.c_str(), 0, nullptr)));
    return {};
}

Result<Rows> Connection::exec_prepared(const std::string& name, const std::vector<Param>& params,
                                       bool binary_results) {
    const ParamArrays arrays(params);
    return finish(PQexecPrepared(conn_.get(), name.c_str(), arrays.count(), arrays.values.data(),
                                 arrays.lengths.data(), arrays.formats.data(),
                                 binary_results ? 1 : 0));
}

Result<std::int64_t> Connection::copy_out(
    const std::string& sql, const std::function<Result<void>(std::string_view)>& sink) {
    PGresult* started = PQexec(conn_.get(), sql.c_str());
    if (PQresultStatus(started) != PGRES_COPY_OUT) {
        auto other = finish(started);
        return other ? Error{"not a COPY TO STDOUT statement", ""} : std::move(other).error();
    }
    PQclear(started);
    std::optional<Error> refused;
    char* buffer = nullptr;
    int size = 0;
    while ((size = PQgetCopyData(conn_.get(), &buffer, 0)) > 0) {
        const std::unique_ptr<char, void (*)(void*)> owned(buffer, &PQfreemem);
        if (refused) {
            continue;  // the cancel request is on its way; what still comes is dropped
        }
        if (auto taken = sink({buffer, static_cast<std::size_t>(size)}); !taken) {
            refused = std::move(taken).error();
            const std::unique_ptr<PGcancel, void (*)(PGcancel*)> cancel(PQgetCancel(conn_.get()),
                                                                        &PQfreeCancel);
            std::array<char, 256> why{};
            PQcancel(cancel.get(), why.data(), static_cast<int>(why.size()));
        }
    }
    auto end = drain();
    if (refused) {
        return *std::move(refused);
    }
    return end;
}

Result<void> Connection::copy_begin(const std::string& sql) {
    PGresult* started = PQexec(conn_.get(), sql.c_str());
    if (PQresultStatus(started) != PGRES_COPY_IN) {
        auto other = finish(started);
        return other ? Error{"not a COPY FROM STDIN statement", ""} : std::move(other).error();
    }
    PQclear(started);
    return {};
}

Result<void> Connection::copy_data(std::string_view data) {
    constexpr std::size_t slice_bytes = 1U << 20U;
    while (!data.empty()) {
        const std::string_view slice = data.substr(0, slice_bytes);
        if (PQputCopyData(conn_.get(), slice.data(), static_cast<int>(slice.size())) != 1) {
            return last_error(nullptr);
        }
        data.remove_prefix(slice.size());
    }
    return {};
}

Result<std::int64_t> Connection::copy_end() {
    if (PQputCopyEnd(conn_.get(), nullptr) != 1) {
        return last_error(nullptr);
    }
    return drain();
}

// Reads results until libpq has no more: the first error, or the last result's row count.
Result<std::int64_t> Connection::drain() {
    std::optional<Error> failed;
    std::int64_t affected = 0;
    while (PGresult* result = PQgetResult(conn_.get())) {
        if (auto rows = finish(result)) {
            affected = rows->affected();
        } else if (!failed) {
            failed = std::move(rows).error();
        }
        if (PQstatus(conn_.get()) != CONNECTION_OK) {
            break;
        }
    }
    if (failed) {
        return *std::move(failed);
    }
    return affected;
}

void Connection::rollback() {
    if (alive() && PQtransactionStatus(conn_.get()) != PQTRANS_IDLE) {
        PQclear(PQexec(conn_.get(), "ROLLBACK"));
    }
}

bool Connection::alive() const {
    return PQstatus(conn_.get()) == CONNECTION_OK;
}

}  // namespace banyan::router
