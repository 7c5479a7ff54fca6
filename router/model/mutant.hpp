// Planted bugs: each leaves out one rule of router/RACES.md, so that the tests can show that they
// would notice. Compiled in by the CMake option BANYAN_MUTANTS alone (preset "mutants", used by
// tests/random/mutants); otherwise every check is the constant false.
#pragma once

#include <string_view>

#ifdef BANYAN_MUTANTS
#include <cstdlib>
#include <string>
#endif

namespace banyan::router {

#ifdef BANYAN_MUTANTS

/// Whether the environment's BANYAN_MUTANT is this name. Read once.
inline bool mutant(std::string_view name) {
    static const std::string planted = [] {
        const char* value = std::getenv("BANYAN_MUTANT");
        return std::string(value == nullptr ? "" : value);
    }();
    return planted == name;
}

#else

constexpr bool mutant(std::string_view) { return false; }

#endif

}  // namespace banyan::router
