#include "proxy/log.hpp"

#include <spdlog/pattern_formatter.h>
#include <spdlog/spdlog.h>

#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <memory>
#include <string_view>

namespace banyan::proxy {
namespace {

/// The message as a JSON string, with its quotation marks: it may hold anything that a client or a
/// server has said.
class JsonMessage final : public spdlog::custom_flag_formatter {
   public:
    void format(const spdlog::details::log_msg& message, const std::tm&,
                spdlog::memory_buf_t& out) override {
        const auto text = boost::json::serialize(
            boost::json::string_view(message.payload.data(), message.payload.size()));
        out.append(text.data(), text.data() + text.size());
    }
    std::unique_ptr<spdlog::custom_flag_formatter> clone() const override {
        return spdlog::details::make_unique<JsonMessage>();
    }
};

}  // namespace

void set_up_log(const router::Config::Log& log) {
    spdlog::set_level(spdlog::level::from_str(log.level));
    if (log.format == "json") {
        auto formatter = std::make_unique<spdlog::pattern_formatter>();
        formatter->add_flag<JsonMessage>('J').set_pattern(
            R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","thread":%t,"message":%J})");
        spdlog::set_formatter(std::move(formatter));
    } else {
        spdlog::set_pattern("%Y-%m-%d %H:%M:%S.%e [%l] %v");
    }
}

}  // namespace banyan::proxy
