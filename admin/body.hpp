// The JSON body of a change: one object whose members are taken out by name and type; what is left
// over is an error naming it. The first problem wins.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/http.hpp"

namespace banyan::admin {

class Body {
   public:
    /// An empty body counts as {}. Anything else needs Content-Type: application/json.
    explicit Body(const Request& request);

    std::optional<std::string> text(std::string_view name);
    std::optional<bool> boolean(std::string_view name);
    std::optional<double> number(std::string_view name);
    std::optional<std::int64_t> integer(std::string_view name, std::int64_t low, std::int64_t high);
    std::optional<std::vector<std::string>> texts(std::string_view name);
    /// text(), and a problem if it is absent.
    std::string required_text(std::string_view name);

    void fail(Response problem);
    void bad_member(std::string_view name, std::string_view what);
    /// The first problem, after a look at members nobody took. Call last.
    std::optional<Response> finish();

   private:
    const boost::json::value* take(std::string_view name);

    boost::json::object object_;
    std::vector<std::string> known_;
    std::optional<Response> problem_;
};

}  // namespace banyan::admin
