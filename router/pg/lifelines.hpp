// Every connection that Banyan's own threads have open, so that a thread which waits for a server
// that will never answer (stopped, or replaced behind its address) can be freed: the socket is shut
// down, and the call returns an error. Keepalives do not help there: the machine still answers
// them. Thread-safe.
#pragma once

#include <libpq-fe.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace banyan::router {

class Lifelines {
   public:
    static Lifelines& all();

    /// `conn` is connected. Keeps a descriptor of its own: libpq may close and reuse the number.
    void add(PGconn* conn, const std::string& host, std::uint16_t port);
    /// Before PQfinish. Unknown ones are ignored.
    void forget(PGconn* conn);
    /// Cuts every connection to this server; returns how many.
    std::size_t cut(const std::string& host, std::uint16_t port);

   private:
    struct Line {
        std::string host;
        std::uint16_t port = 0;
        int descriptor = -1;
    };
    std::mutex mutex_;
    std::map<const PGconn*, Line> lines_;
};

}  // namespace banyan::router
