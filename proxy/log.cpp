#include "proxy/log.hpp"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <array>
#include <atomic>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <memory>
#include <mutex>
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

std::array<std::atomic<std::uint64_t>, SPDLOG_LEVEL_OFF> written{};

/// Writes nothing: counts what the others write.
class CountingSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
    void sink_it_(const spdlog::details::log_msg& message) override {
        written.at(static_cast<std::size_t>(message.level)).fetch_add(1, std::memory_order_relaxed);
    }
    void flush_() override {}
};

}  // namespace

std::vector<router::Sample> log_samples() {
    std::vector<router::Sample> samples;
    for (const auto level : {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                             spdlog::level::err, spdlog::level::critical}) {
        const auto name = spdlog::level::to_string_view(level);
        samples.push_back({"log_messages_total",
                           {{"level", std::string(name.data(), name.size())}},
                           static_cast<double>(written.at(static_cast<std::size_t>(level)).load()),
                           true,
                           "Messages written to the log, by level."});
    }
    return samples;
}

void set_up_log(const router::Config::Log& log) {
    static std::once_flag counted;
    std::call_once(counted, [] {
        spdlog::default_logger()->sinks().push_back(std::make_shared<CountingSink>());
    });
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
