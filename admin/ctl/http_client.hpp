// One HTTP request at a time to Banyan's admin API, in the clear or over TLS; a deadline on each.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "router/model/result.hpp"

namespace banyan::ctl {

struct Url {
    std::string host;
    std::string port;
    std::string authority;  ///< as the Host header wants it
    bool tls = false;
};

/// Files, PEM; empty: the system's authorities, no certificate of one's own.
struct TlsFiles {
    std::string authorities;
    std::string certificate;
    std::string key;
};

/// "http://host[:port][/]" or "https://..."; port 8432 if absent.
Result<Url> parse_url(const std::string& text);

struct Reply {
    int status = 0;
    boost::json::value body;  ///< null if it is not JSON
    std::string location;

    bool ok() const { return status >= 200 && status < 300; }
};

/// For one segment of a path.
std::string percent_encode(std::string_view text);

class HttpClient {
   public:
    HttpClient(Url url, std::string token, std::chrono::milliseconds timeout, TlsFiles files = {});
    ~HttpClient();
    HttpClient(const HttpClient&) = delete;
    HttpClient& operator=(const HttpClient&) = delete;

    /// An Error means that no answer came (the caller's exit code is "cannot connect").
    Result<Reply> send(const std::string& method, const std::string& target,
                       const std::optional<boost::json::value>& body = std::nullopt);

   private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace banyan::ctl
