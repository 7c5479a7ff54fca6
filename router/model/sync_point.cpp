#include "router/model/sync_point.hpp"

#ifdef BANYAN_SYNC_POINTS

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <string>
#include <string_view>

namespace banyan::router {
namespace {

struct Place {
    std::string_view name;
    bool on_event_loop;
};

constexpr bool worker = false;
constexpr bool loop = true;

constexpr Place places[] = {
#define BANYAN_SYNC_POINT_PLACE(name, thread, when) {#name, thread},
    BANYAN_SYNC_POINT_LIST(BANYAN_SYNC_POINT_PLACE)
#undef BANYAN_SYNC_POINT_PLACE
};

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

const std::string& control_file() {
    static const std::string file = variable("BANYAN_SYNC_FILE");
    return file;
}

std::string wanted_now() {
    static const std::string fixed = variable("BANYAN_SYNC");
    const int file =
        control_file().empty() ? -1 : ::open(control_file().c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return fixed;
    }
    std::array<char, 200> buffer{};
    const auto got = ::read(file, buffer.data(), buffer.size());
    ::close(file);
    std::string text(buffer.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
    return text.substr(0, text.find('\n'));
}

void note(std::string_view name, std::string_view what) {
    if (control_file().empty()) {
        return;
    }
    const std::string path = control_file() + ".hits";
    const int file = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file >= 0) {
        const std::string line = std::string(name) + std::string(what) + "\n";
        [[maybe_unused]] const auto written = ::write(file, line.data(), line.size());
        ::close(file);
    }
}

int number(std::string_view text, int otherwise) {
    int value = otherwise;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

/// How often the armed point was hit since it was armed.
class Hits {
   public:
    int count(const std::string& wanted) {
        while (busy_.test_and_set(std::memory_order_acquire)) {
        }
        if (wanted != wanted_) {
            wanted_ = wanted;
            hits_ = 0;
        }
        const int hit = ++hits_;
        busy_.clear(std::memory_order_release);
        return hit;
    }

   private:
    std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
    std::string wanted_;
    int hits_ = 0;
};

void sleep_ms(int milliseconds) {
    timespec rest{milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
    while (::nanosleep(&rest, &rest) != 0) {
    }
}

thread_local std::uint64_t pending = 0;

}  // namespace

void sync_point_pending(SyncPoint point) {
    pending |= std::uint64_t{1} << static_cast<unsigned>(point);
}

void sync_points_due(std::initializer_list<SyncPoint> points) {
    for (const SyncPoint point : points) {
        const auto bit = std::uint64_t{1} << static_cast<unsigned>(point);
        if ((pending & bit) != 0) {
            pending &= ~bit;
            sync_point(point);
        }
    }
}

void sync_point(SyncPoint point) {
    static std::array<std::atomic<bool>, std::size(places)> seen{};
    static Hits hits;
    const auto index = static_cast<std::size_t>(point);
    const Place& place = places[index];
    if (!seen[index].exchange(true)) {
        note(place.name, "");
    }
    const std::string wanted = wanted_now();
    const std::string_view text = wanted;
    const auto equals = text.find('=');
    if (equals == std::string_view::npos || text.substr(0, equals) != place.name) {
        return;
    }
    std::string_view action = text.substr(equals + 1);
    int at = 0;  // each
    if (const auto colon = action.find(':'); colon != std::string_view::npos) {
        at = number(action.substr(colon + 1), 1);
        action = action.substr(0, colon);
    }
    const int hit = hits.count(wanted);
    if (action.starts_with("pause=")) {
        if ((at == 0 || hit == at) && !place.on_event_loop) {
            note(place.name, "!");
            sleep_ms(number(action.substr(6), 0));
        }
    } else if (hit == (at == 0 ? 1 : at)) {
        note(place.name, "!");
        ::raise(action == "stop" ? SIGSTOP : SIGKILL);
    }
}

}  // namespace banyan::router

#endif
