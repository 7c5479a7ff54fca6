#include "proxy/resolve.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <chrono>
#include <map>
#include <mutex>

namespace banyan::proxy {
namespace {

using Address = boost::asio::generic::stream_protocol::endpoint;
using Clock = std::chrono::steady_clock;

struct Entry {
    std::vector<Address> addresses;
    Clock::time_point looked_up;
};

}  // namespace

std::vector<Address> resolve(const router::Endpoint& endpoint) {
    if (endpoint.host.starts_with('/')) {
        return {boost::asio::local::stream_protocol::endpoint(endpoint.host + "/.s.PGSQL." +
                                                              std::to_string(endpoint.port))};
    }
    static std::mutex mutex;
    static std::map<std::pair<std::string, std::uint16_t>, Entry> cache;
    const std::lock_guard lock(mutex);
    auto& entry = cache[{endpoint.host, endpoint.port}];
    const auto now = Clock::now();
    if (!entry.addresses.empty() && now - entry.looked_up < std::chrono::seconds(30)) {
        return entry.addresses;
    }
    boost::asio::io_context io;
    boost::asio::ip::tcp::resolver resolver(io);
    boost::system::error_code error;
    const auto found = resolver.resolve(endpoint.host, std::to_string(endpoint.port), error);
    entry.looked_up = now;
    if (!error) {
        entry.addresses.clear();
        for (const auto& result : found) {
            entry.addresses.emplace_back(result.endpoint());
        }
    }
    return entry.addresses;
}

}  // namespace banyan::proxy
