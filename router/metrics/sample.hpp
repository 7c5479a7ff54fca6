// One value for Prometheus, as the parts of Banyan hand it out.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace banyan::router {

struct Sample {
    std::string name;                                         ///< without "banyan_"
    std::vector<std::pair<std::string, std::string>> labels;  ///< values from a bounded set
    double value = 0;
    bool counter = false;  ///< otherwise a gauge
    std::string help;
};

}  // namespace banyan::router
