#include "proxy/resolve.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>

namespace banyan::proxy {
namespace {

/// Nothing that a name server could say differently.
bool fixed(const std::string& host) {
    boost::system::error_code error;
    boost::asio::ip::make_address(host, error);
    return host.starts_with('/') || !error;
}

constexpr std::chrono::milliseconds between_doubts{200};

}  // namespace

std::vector<Resolver::Address> Resolver::look_up(const std::string& host, std::uint16_t port) {
    if (host.starts_with('/')) {
        return {boost::asio::local::stream_protocol::endpoint(host + "/.s.PGSQL." +
                                                              std::to_string(port))};
    }
    boost::asio::io_context io;
    boost::asio::ip::tcp::resolver resolver(io);
    boost::system::error_code error;
    std::vector<Address> addresses;
    for (const auto& found : resolver.resolve(host, std::to_string(port), error)) {
        addresses.emplace_back(found.endpoint());
    }
    return addresses;
}

Resolver::Resolver(Lookup lookup, std::chrono::milliseconds interval)
    : lookup_(std::move(lookup)), interval_(interval) {}

Resolver::~Resolver() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void Resolver::watch(const std::string& host, std::uint16_t port) {
    auto found = lookup_(host, port);
    const std::lock_guard lock(mutex_);
    names_[{host, port}] = std::move(found);
    if (!fixed(host) && !thread_.joinable()) {
        thread_ = std::thread([this] { work(); });
    }
}

std::vector<Resolver::Address> Resolver::addresses(const std::string& host,
                                                   std::uint16_t port) const {
    const std::lock_guard lock(mutex_);
    const auto it = names_.find({host, port});
    return it == names_.end() ? std::vector<Address>() : it->second;
}

void Resolver::doubt() {
    {
        const std::lock_guard lock(mutex_);
        doubted_ = true;
    }
    wake_.notify_all();
}

void Resolver::refresh() {
    std::vector<Name> names;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [name, known] : names_) {
            if (!fixed(name.first)) {
                names.push_back(name);
            }
        }
    }
    for (const Name& name : names) {
        auto found = lookup_(name.first, name.second);
        const std::lock_guard lock(mutex_);
        auto& known = names_[name];
        if (!found.empty() &&
            !std::is_permutation(found.begin(), found.end(), known.begin(), known.end())) {
            spdlog::info("{} has other addresses now", name.first);
            known = std::move(found);
        }
    }
}

void Resolver::work() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        wake_.wait_for(lock, interval_, [this] { return stopping_ || doubted_; });
        if (stopping_) {
            return;
        }
        lock.unlock();
        refresh();
        lock.lock();
        doubted_ = false;
        wake_.wait_for(lock, between_doubts, [this] { return stopping_; });
    }
}

}  // namespace banyan::proxy
