#include "router/pg/answer.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>

namespace banyan::router {
namespace {

Error error_of(PGconn* connection, const PGresult* result) {
    const char* sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char* primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    std::string message = primary != nullptr ? primary : PQerrorMessage(connection);
    while (!message.empty() && message.back() == '\n') {
        message.pop_back();
    }
    return {message.empty() ? "the connection failed" : std::move(message),
            sqlstate == nullptr ? "" : sqlstate};
}

}  // namespace

bool wait_for_socket(PGconn* connection, bool writable,
                     std::chrono::steady_clock::time_point deadline) {
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
                              deadline - std::chrono::steady_clock::now())
                              .count();
        if (left <= 0) {
            return false;
        }
        pollfd waiting{};
        waiting.fd = PQsocket(connection);
        waiting.events = writable ? POLLOUT : POLLIN;
        const int ready = ::poll(&waiting, 1, static_cast<int>(std::min<long>(left, 60'000)));
        if (ready > 0 || (ready < 0 && errno != EINTR)) {
            return true;
        }
    }
}

// The first error, or else the last result.
Result<Rows> exec_until(PGconn* connection, const std::string& sql,
                        std::chrono::steady_clock::time_point deadline) {
    if (PQsendQuery(connection, sql.c_str()) != 1) {
        return error_of(connection, nullptr);
    }
    Result<Rows> answer = Error{"the connection failed", ""};
    bool failed = false;
    for (;;) {
        while (PQisBusy(connection) != 0) {
            if (!wait_for_socket(connection, false, deadline)) {
                return Error{"connected, but no answer in time", no_answer};
            }
            if (PQconsumeInput(connection) != 1) {
                return error_of(connection, nullptr);
            }
        }
        PGresult* result = PQgetResult(connection);
        if (result == nullptr) {
            return answer;
        }
        const Rows rows(result);
        const auto status = PQresultStatus(result);
        if (failed) {
            continue;
        }
        if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK ||
            status == PGRES_EMPTY_QUERY) {
            answer = rows;
        } else {
            failed = true;
            answer = error_of(connection, result);
        }
    }
}

}  // namespace banyan::router
