#include "admin/static_files.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <stdexcept>

#include "admin/assets.hpp"

namespace banyan::admin {
namespace {

// Scripts and styles are files of this server: nothing inline, nothing from elsewhere.
constexpr const char* policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

std::string inflate_gzip(std::string_view bytes) {
    z_stream stream{};
    if (::inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) {
        throw std::runtime_error("zlib is not available");
    }
    std::string in(bytes);
    std::string out;
    std::array<char, 16384> buffer{};
    stream.next_in = reinterpret_cast<Bytef*>(in.data());
    stream.avail_in = static_cast<uInt>(in.size());
    int state = Z_OK;
    while (state == Z_OK) {
        stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
        stream.avail_out = static_cast<uInt>(buffer.size());
        state = ::inflate(&stream, Z_NO_FLUSH);
        out.append(buffer.data(), buffer.size() - stream.avail_out);
    }
    ::inflateEnd(&stream);
    return out;
}

}  // namespace

std::optional<Response> asset_response(const Request& request, std::string_view path) {
    const auto& all = assets();
    const auto found = std::find_if(all.begin(), all.end(), [&](const Asset& asset) {
        return asset.path == path;
    });
    if (found == all.end()) {
        return std::nullopt;
    }
    Response response;
    response.content_type = found->content_type;
    response.headers.emplace_back("ETag", found->etag);
    response.headers.emplace_back("Cache-Control", "no-cache");
    response.headers.emplace_back("Content-Security-Policy", policy);
    response.headers.emplace_back("Referrer-Policy", "no-referrer");
    response.headers.emplace_back("Vary", "Accept-Encoding");
    if (request.if_none_match == found->etag) {
        response.status = 304;
        return response;
    }
    if (request.accept_encoding.find("gzip") != std::string::npos) {
        response.headers.emplace_back("Content-Encoding", "gzip");
        response.body = found->gzip;
    } else {
        response.body = inflate_gzip(found->gzip);
    }
    return response;
}

}  // namespace banyan::admin
