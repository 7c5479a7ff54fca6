// A request and its response as plain values: what routes, authentication and tests work on. Only
// server.cpp knows sockets and Beast.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace banyan::admin {

struct Request {
    std::string method;  ///< as sent
    std::string target;  ///< path and query, still percent-encoded
    std::string body;

    // Header fields, empty if absent.
    std::string host;
    std::string authorization;
    std::string content_type;
    std::string origin;
    std::string sec_fetch_site;
    std::string accept_encoding;
    std::string if_none_match;
    std::string idempotency_key;

    std::string peer_address;  ///< without port
    bool peer_is_loopback = false;
    std::string local_address;  ///< the address connected to, without port
};

struct Response {
    int status = 200;
    std::string content_type = "application/json";
    std::string body;
    std::vector<std::pair<std::string, std::string>> headers;
    bool events = false;  ///< not a body but a stream of events follows (event_hub.hpp)
};

/// 200 (or another) with a JSON body and a final newline.
Response json_response(const boost::json::value& value, int status = 200);

/// RFC 9457: application/problem+json. `type` is the stable word after "/problems/"; `title` one
/// sentence for a person; `extra` becomes extension members.
Response problem(int status, std::string_view type, std::string_view title,
                 const boost::json::object& extra = {});

/// The reason phrase of the statuses used here.
std::string_view reason_phrase(int status);

/// "a%20b" -> "a b"; `plus` also turns '+' into a blank (queries). False if badly encoded or if a
/// control character comes out.
bool percent_decode(std::string_view text, bool plus, std::string& out);

}  // namespace banyan::admin
