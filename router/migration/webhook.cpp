#include "router/migration/webhook.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

namespace banyan::router {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t most_output = 4096;
constexpr int slice_ms = 20;

// CURL and CURLM are one type: void.
using Easy = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using Multi = std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)>;
using Headers = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

std::size_t keep(char* bytes, std::size_t size, std::size_t count, void* output) {
    auto& text = *static_cast<std::string*>(output);
    text.append(bytes, std::min(size * count, most_output - std::min(most_output, text.size())));
    return size * count;
}

/// "Banyan-From" of "BANYAN_FROM".
std::string header_name(std::string name) {
    for (std::size_t i = 0; i < name.size(); ++i) {
        const bool first = i == 0 || name[i - 1] == '-';
        name[i] = name[i] == '_' ? '-'
                  : first        ? name[i]
                          : static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
    }
    return name;
}

}  // namespace

bool is_webhook(std::string_view command) {
    return command.starts_with("http://") || command.starts_with("https://");
}

HookResult call_webhook(const std::vector<std::string>& command, const std::string& input,
                        const std::vector<std::pair<std::string, std::string>>& environment,
                        std::chrono::milliseconds timeout, const std::function<bool()>& give_up) {
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    HookResult result;
    const Easy easy(ready == CURLE_OK ? curl_easy_init() : nullptr, &curl_easy_cleanup);
    Headers headers(nullptr, &curl_slist_free_all);
    const auto add_header = [&headers](const std::string& line) {
        headers.reset(curl_slist_append(headers.release(), line.c_str()));
    };
    add_header("Content-Type: application/json");
    add_header("Expect:");
    for (const auto& [name, value] : environment) {
        add_header(header_name(name) + ": " + value);
    }
    for (std::size_t i = 1; i < command.size(); ++i) {
        add_header(command[i]);
    }
    char why[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(easy.get(), CURLOPT_URL, command[0].c_str());
    curl_easy_setopt(easy.get(), CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy.get(), CURLOPT_USERAGENT, "banyan/" BANYAN_VERSION);
    curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, input.c_str());
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(input.size()));
    curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &result.output);
    curl_easy_setopt(easy.get(), CURLOPT_ERRORBUFFER, why);

    const Multi multi(curl_multi_init(), &curl_multi_cleanup);
    curl_multi_add_handle(multi.get(), easy.get());
    const auto end = Clock::now() + timeout;
    int running = 1;
    while (curl_multi_perform(multi.get(), &running) == CURLM_OK && running != 0) {
        if (Clock::now() >= end) {
            result.why = "it took longer than " + std::to_string(timeout.count()) + " ms";
            break;
        }
        if (give_up()) {
            result.why = "the transition was called off";
            break;
        }
        curl_multi_poll(multi.get(), nullptr, 0, slice_ms, nullptr);
    }
    if (result.why.empty()) {
        int left = 0;
        const CURLMsg* message = curl_multi_info_read(multi.get(), &left);
        long status = 0;
        curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
        if (message == nullptr || message->data.result != CURLE_OK) {
            const auto code = message == nullptr ? CURLE_FAILED_INIT : message->data.result;
            result.why = "it cannot be called: " +
                         std::string(why[0] != '\0' ? why : curl_easy_strerror(code));
        } else if (status < 200 || status >= 300) {
            result.why = "it answered with status " + std::to_string(status);
        } else {
            result.good = true;
        }
    }
    curl_multi_remove_handle(multi.get(), easy.get());
    return result;
}

}  // namespace banyan::router
