// The dashboard's files and the API's description as the build has packed them (dashboard/embed.py).
#pragma once

#include <string_view>
#include <vector>

namespace banyan::admin {

struct Asset {
    std::string_view path;  ///< "/", "/app.js", ...
    std::string_view content_type;
    std::string_view etag;  ///< with its quotation marks
    std::string_view gzip;  ///< the file, compressed
};

/// Static data.
const std::vector<Asset>& assets();

}  // namespace banyan::admin
