// The dashboard's files (admin/dashboard), as they are served at `/`: embedded in the program by
// admin/dashboard/embed.py, so that nothing has to be installed beside it.
#pragma once

#include <string_view>
#include <vector>

namespace banyan::admin {

/// One file. All views are of static storage.
struct Asset {
    std::string_view path;          ///< as in the request, "/" for the page itself
    std::string_view content_type;  ///< with its charset
    std::string_view etag;          ///< of the content, quotes included
    std::string_view gzip;          ///< the content, as Content-Encoding: gzip
};

/// All files, in the order of admin/dashboard/assets.
const std::vector<Asset>& assets();

}  // namespace banyan::admin
