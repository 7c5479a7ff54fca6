// The reply queue: any order of messages and replies. Its sums hold, and every message's handler is
// told its end at most once.
#include <cstdlib>
#include <string_view>
#include <vector>

#include "router/session/reply_queue.hpp"

using namespace banyan::router;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::string_view replies = "123tTnDdcHWGCIsVEZNSA?";
    ReplyQueue queue;
    std::vector<int> fallen;
    for (std::size_t i = 0; i < size; ++i) {
        const auto op = data[i];
        if (op < 128) {
            const auto kind = static_cast<Expect>(op % 10);
            const auto index = fallen.size();
            fallen.push_back(0);
            queue.push(kind, on_reply([&fallen, index](char type, std::string_view,
                                                       std::string_view) {
                           fallen[index] += type == 0 ? 1 : 0;
                           if (fallen[index] > 1) {
                               std::abort();
                           }
                       }));
        } else if (queue.explain(replies[op % replies.size()]).verdict ==
                   ReplyQueue::Verdict::violation) {
            return 0;  // the session ends
        }
        if (queue.ready_pending() > queue.size() || queue.empty() != (queue.size() == 0) ||
            (queue.skipping() && !queue.empty())) {
            std::abort();
        }
    }
    return 0;
}
