// A PostgreSQL server of the test's own, started by tests/support/cluster on a free port in a fresh
// directory under $TMPDIR or /tmp, and stopped and deleted with the object. The superuser is
// "postgres" and needs no password. Starting takes about two seconds: share one among a suite's
// cases (SetUpTestSuite) and give each case its own database.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "router/pg/connection.hpp"

namespace banyan::test {

class PostgresCluster {
   public:
    /// `settings`: postgresql.conf lines as "name=value". `hba`: replaces pg_hba.conf if not empty.
    /// Throws std::runtime_error with the server's words if it does not start.
    explicit PostgresCluster(const std::vector<std::string>& settings = {},
                             const std::string& hba = "");
    ~PostgresCluster();
    PostgresCluster(const PostgresCluster&) = delete;
    PostgresCluster& operator=(const PostgresCluster&) = delete;

    std::uint16_t port() const { return port_; }
    const std::filesystem::path& directory() const { return directory_; }  ///< has the Unix socket
    router::Endpoint endpoint(const std::string& database = "postgres") const;
    /// A connection as the superuser; throws std::runtime_error.
    router::Connection connect(const std::string& database = "postgres") const;
    /// Runs statements on a new connection; throws std::runtime_error. Returns the last result.
    router::Rows run(const std::string& sql, const std::string& database = "postgres") const;
    void create_database(const std::string& name) const;

    /// "immediate" is a crash, "fast" ends the sessions and shuts down.
    void stop(const std::string& mode = "immediate");
    /// Starts it again on the same port, after stop().
    void restart();

   private:
    std::filesystem::path directory_;
    std::uint16_t port_ = 0;
};

}  // namespace banyan::test
