#include "tests/support/postgres_cluster.hpp"

#include <stdlib.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>

namespace banyan::test {
namespace {

std::string shell_quoted(const std::string& word) {
    std::string quoted = "'";
    for (const char c : word) {
        quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    }
    return quoted + "'";
}

// Runs tests/support/cluster and returns what it printed; throws with its words if it failed.
std::string cluster_script(const std::vector<std::string>& arguments) {
    const auto script = std::filesystem::path(__FILE__).parent_path() / "cluster";
    std::string command = shell_quoted(script.string());
    for (const std::string& argument : arguments) {
        command += " " + shell_quoted(argument);
    }
    command += " 2>&1";
    FILE* pipe = ::popen(command.c_str(), "re");
    if (pipe == nullptr) {
        throw std::runtime_error("cannot run " + command);
    }
    std::string output;
    std::array<char, 1024> buffer{};
    while (const std::size_t size = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
        output.append(buffer.data(), size);
    }
    if (::pclose(pipe) != 0) {
        throw std::runtime_error(command + " failed: " + output);
    }
    return output;
}

}  // namespace

PostgresCluster::PostgresCluster(const std::vector<std::string>& settings, const std::string& hba) {
    // Below $TMPDIR, where tests/run finds what a killed test program left running.
    std::string name = (std::filesystem::temp_directory_path() / "banyan_pg_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
        throw std::runtime_error("cannot create the directory " + name);
    }
    directory_ = name;
    if (!hba.empty()) {
        std::ofstream(directory_ / "pg_hba.conf") << hba << '\n';
    }
    std::vector<std::string> arguments = {"start", name, "fsync=off"};
    arguments.insert(arguments.end(), settings.begin(), settings.end());
    try {
        port_ = static_cast<std::uint16_t>(std::stoul(cluster_script(arguments)));
    } catch (...) {
        std::error_code ignored;
        std::filesystem::remove_all(directory_, ignored);
        throw;
    }
}

PostgresCluster::~PostgresCluster() {
    try {
        stop("immediate");
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
    }
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

router::Endpoint PostgresCluster::endpoint(const std::string& database) const {
    router::Endpoint endpoint;
    endpoint.host = "127.0.0.1";
    endpoint.port = port_;
    endpoint.database = database;
    endpoint.user = "postgres";
    return endpoint;
}

router::Connection PostgresCluster::connect(const std::string& database) const {
    auto connection = router::Connection::open(endpoint(database), "test");
    if (!connection) {
        throw std::runtime_error(connection.error().message);
    }
    return std::move(*connection);
}

router::Rows PostgresCluster::run(const std::string& sql, const std::string& database) const {
    auto connection = connect(database);
    // The fixed settings hide the schema that test statements mean.
    auto rows = connection.exec("SET search_path = public, pg_catalog;" + sql);
    if (!rows) {
        throw std::runtime_error(rows.error().message + " (" + rows.error().sqlstate +
                                 ") in: " + sql);
    }
    return std::move(*rows);
}

void PostgresCluster::create_database(const std::string& name) const {
    auto connection = connect("postgres");
    if (auto made = connection.exec("CREATE DATABASE \"" + name + "\""); !made) {
        throw std::runtime_error(made.error().message);
    }
}

void PostgresCluster::stop(const std::string& mode) {
    cluster_script({"stop", directory_.string(), mode});
}

void PostgresCluster::restart() {
    cluster_script({"restart", directory_.string()});
}

}  // namespace banyan::test
