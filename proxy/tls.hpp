// TLS as the configuration wants it: one OpenSSL context for the clients, one for each database.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "router/config/config.hpp"
#include "router/model/result.hpp"
#include "router/model/types.hpp"

namespace banyan::proxy {

struct SslFree {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using SslPtr = std::unique_ptr<SSL, SslFree>;

/// Thread-safe. Connections keep the certificates they began with; reload() is for those to come.
class Tls {
   public:
    /// Reads every file the configuration names. An Error says which one cannot be used and why.
    static Result<std::unique_ptr<Tls>> load(const router::Config& config);
    /// Reads the files again, as this configuration's [listen] names them. On an Error everything
    /// stays as it was.
    Result<void> reload(const router::Config& config);

    bool offered_to_clients() const { return config_.listen.tls(); }
    /// When the certificates in use end: what each is shown to ("clients", "source", "target") and
    /// the Unix time. Sessions that exist may have begun with older ones.
    std::vector<std::pair<std::string, std::int64_t>> certificates_end() const;
    /// For a connection that a client has made; null without [listen] sslmode.
    SslPtr accept() const;
    /// For a connection to a database; null if its sslmode is disable.
    SslPtr connect(router::Side side) const;

   private:
    using ContextPtr = std::unique_ptr<SSL_CTX, SslFree>;
    struct Contexts {
        ContextPtr clients;
        ContextPtr source;
        ContextPtr target;
    };
    explicit Tls(const router::Config& config) : config_(config) {}
    static Result<ContextPtr> for_clients(const router::Config::Listen& listen);
    static Result<ContextPtr> for_server(const router::Endpoint& endpoint, const char* section);
    std::shared_ptr<const Contexts> contexts() const;

    const router::Config& config_;
    mutable std::mutex mutex_;
    std::shared_ptr<const Contexts> contexts_;
};

/// The common name of the certificate that the peer has shown and OpenSSL has verified; nullopt if
/// it has shown none, or its name cannot be trusted to be one (a zero byte in it).
std::optional<std::string> peer_common_name(SSL* ssl);

/// When the first certificate of this file ends, Unix time; nullopt if there is none.
std::optional<std::int64_t> certificate_ends(const std::string& file);

/// The ALPN protocol was negotiated, as direct TLS demands.
bool negotiated_postgresql(SSL* ssl);

}  // namespace banyan::proxy
