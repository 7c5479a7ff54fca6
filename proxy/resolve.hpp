// Addresses of the two databases. A name is looked up once and then again at most every 30 seconds,
// so that a failover by DNS is followed without a lookup per connection.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <vector>

#include "router/pg/connection.hpp"

namespace banyan::proxy {

/// Thread-safe. Empty if the name is unknown. The first lookup of a name blocks; main() does it
/// before the first client.
std::vector<boost::asio::generic::stream_protocol::endpoint> resolve(
    const router::Endpoint& endpoint);

}  // namespace banyan::proxy
