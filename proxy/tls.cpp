#include "proxy/tls.hpp"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <array>
#include <boost/asio/ip/address.hpp>
#include <cstring>

namespace banyan::proxy {
namespace {

// Length and name, as ALPN has it.
constexpr std::array<unsigned char, 11> alpn = {10,  'p', 'o', 's', 't', 'g',
                                                'r', 'e', 's', 'q', 'l'};

std::string openssl_reason() {
    const auto code = ERR_peek_error();
    const char* reason = ERR_reason_error_string(code);
    std::string text = reason != nullptr                  ? reason
                       : ERR_GET_LIB(code) == ERR_LIB_SYS ? std::strerror(ERR_GET_REASON(code))
                                                          : "unknown reason";
    ERR_clear_error();
    return text;
}

Error cannot_use(const std::string& key, const std::string& file) {
    return {key + ": cannot use \"" + file + "\": " + openssl_reason(), ""};
}

std::unique_ptr<SSL_CTX, SslFree> fresh_context(const SSL_METHOD* method) {
    ERR_clear_error();
    std::unique_ptr<SSL_CTX, SslFree> context(SSL_CTX_new(method));
    SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
    SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                        SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                           SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context.get(), 0);
    return context;
}

// Certificate chain and key. `keys` are the configuration's names of the two.
Result<void> use_certificate(SSL_CTX* context, const std::array<std::string, 2>& keys,
                             const std::string& certificate, const std::string& key) {
    if (SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1) {
        return cannot_use(keys[0], certificate);
    }
    struct stat facts {};
    if (::stat(key.c_str(), &facts) == 0 && S_ISREG(facts.st_mode) &&
        (facts.st_mode & (S_IWGRP | S_IRWXO)) != 0) {
        return Error{keys[1] + ": \"" + key +
                         "\" may be read by others or written by its group; chmod 600 it (or 640)",
                     ""};
    }
    if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1) {
        return cannot_use(keys[1], key);
    }
    if (SSL_CTX_check_private_key(context) != 1) {
        return Error{keys[1] + ": \"" + key + "\" is not the key of \"" + certificate + "\"", ""};
    }
    return {};
}

// A client that offers protocols must offer this one; one that offers none is an older libpq.
int select_alpn(SSL*, const unsigned char** chosen, unsigned char* size,
                const unsigned char* offered, unsigned offered_size, void*) {
    unsigned char* selected = nullptr;
    if (SSL_select_next_proto(&selected, size, alpn.data(), alpn.size(), offered, offered_size) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *chosen = selected;
    return SSL_TLSEXT_ERR_OK;
}

bool is_address(const std::string& host) {
    boost::system::error_code error;
    boost::asio::ip::make_address(host, error);
    return !error;
}

}  // namespace

namespace {

std::optional<std::int64_t> ends_at(const X509* certificate) {
    std::tm time{};
    if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &time) != 1) {
        return std::nullopt;
    }
    return ::timegm(&time);
}

}  // namespace

std::optional<std::int64_t> certificate_ends(const std::string& file) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> in(BIO_new_file(file.c_str(), "r"), &BIO_free);
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(
        in ? PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr) : nullptr, &X509_free);
    ERR_clear_error();
    return ends_at(certificate.get());
}

std::vector<std::pair<std::string, std::int64_t>> Tls::certificates_end() const {
    std::vector<std::pair<std::string, std::int64_t>> all;
    const auto now = contexts();
    for (const auto& [shown_to, context] :
         {std::pair("clients", now->clients.get()), {"source", now->source.get()},
          {"target", now->target.get()}}) {
        if (const auto end = context == nullptr
                                 ? std::nullopt
                                 : ends_at(SSL_CTX_get0_certificate(context))) {
            all.emplace_back(shown_to, *end);
        }
    }
    return all;
}

Result<Tls::ContextPtr> Tls::for_clients(const router::Config::Listen& listen) {
    if (!listen.tls()) {
        return ContextPtr();
    }
    auto context = fresh_context(TLS_server_method());
    if (listen.ssl_min_protocol_version == "TLSv1.3") {
        SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION);
    }
    if (auto used =
            use_certificate(context.get(), {"[listen] ssl_cert_file", "[listen] ssl_key_file"},
                            listen.ssl_cert_file, listen.ssl_key_file);
        !used) {
        return used.error();
    }
    if (const auto& file = listen.ssl_ca_file; !file.empty()) {
        auto* names = SSL_load_client_CA_file(file.c_str());
        if (names == nullptr || SSL_CTX_load_verify_file(context.get(), file.c_str()) != 1) {
            return cannot_use("[listen] ssl_ca_file", file);
        }
        SSL_CTX_set_client_CA_list(context.get(), names);
        // Who shows none is told so in PostgreSQL's protocol, after the handshake.
        SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, nullptr);
    }
    SSL_CTX_set_alpn_select_cb(context.get(), select_alpn, nullptr);
    return context;
}

Result<Tls::ContextPtr> Tls::for_server(const router::Endpoint& endpoint, const char* section) {
    if (!endpoint.encrypted()) {
        return ContextPtr();
    }
    const auto key = [&](const char* name) { return "[" + std::string(section) + "] " + name; };
    auto context = fresh_context(TLS_client_method());
    if (!endpoint.sslcert.empty()) {
        if (auto used = use_certificate(context.get(), {key("sslcert"), key("sslkey")},
                                        endpoint.sslcert, endpoint.sslkey);
            !used) {
            return used.error();
        }
    }
    if (endpoint.verifies_certificate()) {
        if (SSL_CTX_load_verify_file(context.get(), endpoint.sslrootcert.c_str()) != 1) {
            return cannot_use(key("sslrootcert"), endpoint.sslrootcert);
        }
        SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    }
    return context;
}

Result<std::unique_ptr<Tls>> Tls::load(const router::Config& config) {
    std::unique_ptr<Tls> tls(new Tls(config));
    if (auto loaded = tls->reload(config); !loaded) {
        return loaded.error();
    }
    return tls;
}

Result<void> Tls::reload(const router::Config& config) {
    auto clients = for_clients(config.listen);
    if (!clients) {
        return clients.error();
    }
    auto source = for_server(config_.source, "source");
    if (!source) {
        return source.error();
    }
    auto target = for_server(config_.target, "target");
    if (!target) {
        return target.error();
    }
    auto fresh = std::make_shared<const Contexts>(
        Contexts{std::move(*clients), std::move(*source), std::move(*target)});
    const std::lock_guard lock(mutex_);
    contexts_ = std::move(fresh);
    return {};
}

std::shared_ptr<const Tls::Contexts> Tls::contexts() const {
    const std::lock_guard lock(mutex_);
    return contexts_;
}

SslPtr Tls::accept() const {
    const auto now = contexts();
    if (now->clients == nullptr) {
        return nullptr;
    }
    SslPtr ssl(SSL_new(now->clients.get()));
    SSL_set_accept_state(ssl.get());
    return ssl;
}

SslPtr Tls::connect(router::Side side) const {
    const auto now = contexts();
    const bool source = side == router::Side::source;
    SSL_CTX* context = source ? now->source.get() : now->target.get();
    if (context == nullptr) {
        return nullptr;
    }
    SslPtr ssl(SSL_new(context));
    SSL_set_connect_state(ssl.get());
    const auto& endpoint = source ? config_.source : config_.target;
    const bool address = is_address(endpoint.host);
    if (!address) {
        // The macro SSL_set_tlsext_host_name without its C cast.
        SSL_ctrl(ssl.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                 const_cast<char*>(endpoint.host.c_str()));
    }
    if (endpoint.sslmode == "verify-full") {
        auto* wanted = SSL_get0_param(ssl.get());
        if (address) {
            X509_VERIFY_PARAM_set1_ip_asc(wanted, endpoint.host.c_str());
        } else {
            X509_VERIFY_PARAM_set1_host(wanted, endpoint.host.c_str(), endpoint.host.size());
        }
    }
    return ssl;
}

std::optional<std::string> peer_common_name(SSL* ssl) {
    X509* certificate = SSL_get0_peer_certificate(ssl);
    if (certificate == nullptr || SSL_get_verify_result(ssl) != X509_V_OK) {
        return std::nullopt;
    }
    X509_NAME* subject = X509_get_subject_name(certificate);
    const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0) {
        return std::string();
    }
    unsigned char* text = nullptr;
    const int size =
        ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (size < 0) {
        return std::nullopt;
    }
    std::string name(text, text + size);
    OPENSSL_free(text);
    return name.find('\0') == std::string::npos ? std::optional(std::move(name)) : std::nullopt;
}

bool negotiated_postgresql(SSL* ssl) {
    const unsigned char* chosen = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl, &chosen, &size);
    return size == alpn.size() - 1 && std::memcmp(chosen, alpn.data() + 1, size) == 0;
}

}  // namespace banyan::proxy
