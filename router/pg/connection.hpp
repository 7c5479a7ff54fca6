// A libpq connection for Banyan's own threads (catalogue, backfill, repair, verification, gates):
// blocking, one thread at a time, with settings that make every value print the same on both
// sides. Never used for a client's traffic.
#pragma once

#include <libpq-fe.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/model/result.hpp"

namespace banyan::router {

/// How to reach one of the two databases as Banyan's service role.
struct Endpoint {
    std::string host;  ///< name, address, or the directory of a Unix socket
    std::uint16_t port = 5432;
    std::string database;
    std::string user;
    std::string password;
    std::chrono::milliseconds connect_timeout{5000};
    std::string sslmode = "disable";  ///< disable, require, verify-ca, verify-full; as libpq's
    std::string sslrootcert;          ///< files
    std::string sslcert;
    std::string sslkey;

    bool encrypted() const { return sslmode != "disable"; }
    /// As libpq: "require" with a root certificate verifies as "verify-ca" does.
    bool verifies_certificate() const {
        return sslmode.starts_with("verify") || (encrypted() && !sslrootcert.empty());
    }
};

/// One parameter: nullopt is NULL.
struct Param {
    std::optional<std::string> value;
    bool binary = false;

    static Param text(std::string value) { return {std::move(value), false}; }
    static Param number(std::int64_t value) { return {std::to_string(value), false}; }
    static Param raw(std::string_view value) { return {std::string(value), true}; }
    static Param null() { return {}; }
};

/// A finished result. Views stay valid as long as the Rows.
class Rows {
   public:
    explicit Rows(PGresult* result) : result_(result, &PQclear) {}
    int size() const { return PQntuples(result_.get()); }
    int columns() const { return PQnfields(result_.get()); }
    bool null(int row, int column) const { return PQgetisnull(result_.get(), row, column) != 0; }
    std::string_view view(int row, int column) const {
        return {PQgetvalue(result_.get(), row, column),
                static_cast<std::size_t>(PQgetlength(result_.get(), row, column))};
    }
    std::string text(int row, int column) const { return std::string(view(row, column)); }
    std::int64_t number(int row, int column) const;  ///< 0 if not a number
    bool truth(int row, int column) const { return view(row, column) == "t"; }
    /// Rows changed, from the command tag; 0 if it has none.
    std::int64_t affected() const;

   private:
    std::shared_ptr<PGresult> result_;
};

class Connection {
   public:
    /// Connects with application_name `application` and fixed settings (search_path =
    /// pg_catalog, DateStyle ISO, IntervalStyle postgres, TimeZone UTC, extra_float_digits 3,
    /// bytea_output hex, lc_monetary C, client_encoding UTF8 unless the database is SQL_ASCII,
    /// statement and idle timeouts off, default_transaction_isolation read committed,
    /// row_security off).
    static Result<Connection> open(const Endpoint& endpoint, const std::string& application);

    /// One or more statements without parameters, simple protocol.
    Result<Rows> exec(const std::string& sql);
    /// One statement with parameters; results in text, or all in binary.
    Result<Rows> exec(const std::string& sql, const std::vector<Param>& params,
                      bool binary_results = false);
    /// A statement kept on the server for exec_prepared(), for the life of the connection.
    Result<void> prepare(const std::string& name, const std::string& sql);
    Result<Rows> exec_prepared(const std::string& name, const std::vector<Param>& params,
                               bool binary_results = false);
    /// The constraint that the last failed statement violated, or empty.
    const std::string& violated_constraint() const { return constraint_; }
    /// COPY ... TO STDOUT: calls `sink` for every chunk of data.
    Result<std::int64_t> copy_out(const std::string& sql,
                                  const std::function<Result<void>(std::string_view)>& sink);
    /// Starts COPY ... FROM STDIN; then copy_data() and copy_end().
    Result<void> copy_begin(const std::string& sql);
    Result<void> copy_data(std::string_view data);
    Result<std::int64_t> copy_end();

    /// ROLLBACK if a transaction is open, ignoring errors.
    void rollback();
    bool alive() const;
    std::int32_t process_id() const { return PQbackendPID(conn_.get()); }
    PGconn* raw() { return conn_.get(); }

   private:
    explicit Connection(PGconn* conn) : conn_(conn, &PQfinish) {}
    Result<Rows> finish(PGresult* result);
    Result<std::int64_t> drain();
    Error last_error(const PGresult* result) const;
    std::unique_ptr<PGconn, void (*)(PGconn*)> conn_;
    std::string constraint_;
};

}  // namespace banyan::router
