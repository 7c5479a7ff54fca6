// The dashboard's files and the API's description, built into the program (dashboard/).
#pragma once

#include <optional>
#include <string_view>

#include "admin/http.hpp"

namespace banyan::admin {

/// The file at that path ("/" is the dashboard), with its own Content-Security-Policy; 304 if the
/// client has it already. Nothing if there is none. Compressed unless the client cannot take that.
std::optional<Response> asset_response(const Request& request, std::string_view path);

}  // namespace banyan::admin
