#include "router/pg/lifelines.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace banyan::router {

Lifelines& Lifelines::all() {
    static Lifelines lifelines;
    return lifelines;
}

void Lifelines::add(PGconn* conn, const std::string& host, std::uint16_t port) {
    const int descriptor = ::fcntl(PQsocket(conn), F_DUPFD_CLOEXEC, 0);
    if (descriptor >= 0) {
        const std::lock_guard lock(mutex_);
        lines_.insert_or_assign(conn, Line{host, port, descriptor});
    }
}

void Lifelines::forget(PGconn* conn) {
    const std::lock_guard lock(mutex_);
    if (const auto line = lines_.find(conn); line != lines_.end()) {
        ::close(line->second.descriptor);
        lines_.erase(line);
    }
}

std::size_t Lifelines::cut(const std::string& host, std::uint16_t port) {
    const std::lock_guard lock(mutex_);
    std::size_t cut = 0;
    for (const auto& [conn, line] : lines_) {
        if (line.host == host && line.port == port) {
            ::shutdown(line.descriptor, SHUT_RDWR);
            ++cut;
        }
    }
    return cut;
}

}  // namespace banyan::router
