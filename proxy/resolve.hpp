// Addresses of the two databases. Sessions get what is known and never wait for a name server: a
// thread looks the names up again every few seconds, and at once when no address of a name could be
// reached, so that a failover by DNS is followed.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace banyan::proxy {

class Resolver {
   public:
    using Address = boost::asio::generic::stream_protocol::endpoint;
    /// Empty: the name is unknown, or the name server does not answer. May block.
    using Lookup = std::function<std::vector<Address>(const std::string& host, std::uint16_t port)>;

    /// The system's resolver.
    static std::vector<Address> look_up(const std::string& host, std::uint16_t port);

    explicit Resolver(Lookup lookup = look_up,
                      std::chrono::milliseconds interval = std::chrono::seconds(5));
    ~Resolver();
    Resolver(const Resolver&) = delete;
    Resolver& operator=(const Resolver&) = delete;

    /// Looks the name up and keeps doing so. The first time it blocks. A name, an address, or the
    /// directory of a Unix socket.
    void watch(const std::string& host, std::uint16_t port);
    /// Of a watched name: what was found last; names that can no longer be found keep their
    /// addresses. Never blocks on a lookup.
    std::vector<Address> addresses(const std::string& host, std::uint16_t port) const;
    /// The addresses known are of no use: look soon.
    void doubt();
    /// Looks every name up now; blocks.
    void refresh();

   private:
    using Name = std::pair<std::string, std::uint16_t>;
    void work();

    const Lookup lookup_;
    const std::chrono::milliseconds interval_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::map<Name, std::vector<Address>> names_;
    bool doubted_ = false;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace banyan::proxy
