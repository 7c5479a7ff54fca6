// Pauses between two steps of a worker, for tests that must hit a window a few microseconds wide.
// Compiled in with the mutants alone (router/model/mutant.hpp).
#pragma once

#include <string_view>

#ifdef BANYAN_MUTANTS
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#endif

namespace banyan::router {

#ifdef BANYAN_MUTANTS

/// Sleeps if the environment's BANYAN_PAUSE is "point=milliseconds". For the threads of the workers
/// and of the journal; an event loop must not sleep.
inline void mutant_pause(std::string_view point) {
    static const std::string wanted = [] {
        const char* value = std::getenv("BANYAN_PAUSE");
        return std::string(value == nullptr ? "" : value);
    }();
    const auto equals = wanted.find('=');
    if (equals == std::string::npos || std::string_view(wanted).substr(0, equals) != point) {
        return;
    }
    int milliseconds = 0;
    std::from_chars(wanted.data() + equals + 1, wanted.data() + wanted.size(), milliseconds);
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

#else

constexpr void mutant_pause(std::string_view) {}

#endif

}  // namespace banyan::router
