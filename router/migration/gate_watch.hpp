// Looks at the gates of the next step forward now and then while writes are mirrored, so that a
// board or an alert can show them without anybody asking.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "router/migration/gates.hpp"
#include "router/model/types.hpp"

namespace banyan::router {

/// One step forward; nullopt from COMPLETE.
std::optional<Phase> step_forward(Phase from);

class GateWatch {
   public:
    struct View {
        Phase to{};
        std::vector<Gate> gates;  ///< empty before the first look
        std::int64_t checked_unix_ms = 0;
    };
    /// What to look at, and the gates of that step; nullopt: not now. May block.
    using Look = std::function<std::optional<View>()>;

    explicit GateWatch(Look look) : look_(std::move(look)) {}
    ~GateWatch() { stop(); }
    GateWatch(const GateWatch&) = delete;
    GateWatch& operator=(const GateWatch&) = delete;

    void start();
    void stop();
    View view() const;

   private:
    void work();

    const Look look_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;
    View view_;
    std::thread thread_;
};

}  // namespace banyan::router
