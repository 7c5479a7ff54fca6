// The names of settings of the application's own that a session has used: PostgreSQL lists them
// nowhere, so they are picked from the text as it goes by, in every phase. The values are asked of
// the server; a name too many does no harm.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>

namespace banyan::router {

/// Adds every name with a dot that follows SET, SET SESSION, SET LOCAL or set_config(' in the first
/// 4 kB of `text`, up to 100 in all. Quoted identifiers and names given as parameters are missed.
void note_custom_settings(std::string_view text, std::set<std::string, std::less<>>& names);

}  // namespace banyan::router
