#include "admin/body.hpp"

#include <algorithm>
#include <cctype>

namespace banyan::admin {
namespace {

bool is_json(std::string_view content_type) {
    std::string type(content_type.substr(0, content_type.find(';')));
    while (type.ends_with(" ")) {
        type.pop_back();
    }
    std::transform(type.begin(), type.end(), type.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return type == "application/json";
}

Response syntax_problem(const std::string& text, std::size_t offset, const std::string& why) {
    const auto begin = text.begin();
    const auto end = begin + static_cast<std::ptrdiff_t>(std::min(offset, text.size()));
    const auto line = std::count(begin, end, '\n') + 1;
    const auto last = text.substr(0, offset).rfind('\n');
    const auto column = offset - (last == std::string::npos ? 0 : last + 1) + 1;
    return problem(400, "bad-json", "The body is not valid JSON.",
                   {{"detail", why}, {"offset", offset}, {"line", line}, {"column", column}});
}

}  // namespace

Body::Body(const Request& request) {
    if (request.body.empty()) {
        return;
    }
    if (!is_json(request.content_type)) {
        fail(problem(415, "unsupported-media-type", "The body must be application/json.",
                     {{"content_type", request.content_type}}));
        return;
    }
    boost::json::stream_parser parser;
    boost::json::error_code error;
    const std::size_t offset = parser.write_some(request.body, error);
    if (!error && offset == request.body.size()) {
        parser.finish(error);
    } else if (!error) {
        error = boost::json::error::extra_data;
    }
    if (error) {
        fail(syntax_problem(request.body, offset, error.message()));
        return;
    }
    boost::json::value value = parser.release();
    if (!value.is_object()) {
        fail(problem(400, "bad-request", "The body must be a JSON object."));
        return;
    }
    object_ = std::move(value.get_object());
}

void Body::fail(Response problem) {
    if (!problem_) {
        problem_ = std::move(problem);
    }
}

void Body::bad_member(std::string_view name, std::string_view what) {
    fail(problem(400, "bad-request",
                 "The member \"" + std::string(name) + "\" " + std::string(what) + ".",
                 {{"member", name}}));
}

const boost::json::value* Body::take(std::string_view name) {
    known_.emplace_back(name);
    const boost::json::value* value = object_.if_contains(name);
    return value == nullptr || value->is_null() ? nullptr : value;
}

std::optional<std::string> Body::text(std::string_view name) {
    const auto* value = take(name);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (!value->is_string()) {
        bad_member(name, "must be a string");
        return std::nullopt;
    }
    return std::string(value->get_string());
}

std::string Body::required_text(std::string_view name) {
    auto value = text(name);
    if (!value || value->find_first_not_of(' ') == std::string::npos) {
        bad_member(name, "is missing or empty");
        return {};
    }
    return std::move(*value);
}

std::optional<bool> Body::boolean(std::string_view name) {
    const auto* value = take(name);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (!value->is_bool()) {
        bad_member(name, "must be true or false");
        return std::nullopt;
    }
    return value->get_bool();
}

std::optional<double> Body::number(std::string_view name) {
    const auto* value = take(name);
    if (value == nullptr) {
        return std::nullopt;
    }
    boost::json::error_code error;
    const double number = value->to_number<double>(error);
    if (error) {
        bad_member(name, "must be a number");
        return std::nullopt;
    }
    return number;
}

std::optional<std::int64_t> Body::integer(std::string_view name, std::int64_t low,
                                          std::int64_t high) {
    const auto* value = take(name);
    if (value == nullptr) {
        return std::nullopt;
    }
    boost::json::error_code error;
    const auto number = value->to_number<std::int64_t>(error);
    if (error || number < low || number > high) {
        bad_member(
            name, "must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
        return std::nullopt;
    }
    return number;
}

std::optional<std::vector<std::string>> Body::texts(std::string_view name) {
    const auto* value = take(name);
    if (value == nullptr) {
        return std::nullopt;
    }
    std::vector<std::string> texts;
    const auto* array = value->if_array();
    if (array != nullptr) {
        for (const auto& element : *array) {
            if (element.is_string()) {
                texts.emplace_back(element.get_string());
            }
        }
    }
    if (array == nullptr || texts.size() != array->size()) {
        bad_member(name, "must be an array of strings");
        return std::nullopt;
    }
    return texts;
}

std::optional<Response> Body::finish() {
    if (problem_) {
        return problem_;
    }
    boost::json::array unknown;
    std::string names;
    for (const auto& member : object_) {
        if (std::find(known_.begin(), known_.end(), member.key()) == known_.end()) {
            unknown.emplace_back(member.key());
            names += (names.empty() ? "" : ", ") + std::string(member.key());
        }
    }
    if (unknown.empty()) {
        return std::nullopt;
    }
    boost::json::array known(known_.begin(), known_.end());
    return problem(400, "unknown-member", "Unknown in the body: " + names + ".",
                   {{"members", unknown}, {"known", known}});
}

}  // namespace banyan::admin
