// Runs one fuzz target over its corpus as an ordinary test: each input as it is, cut short at many
// places, and with a byte changed. A target that finds something aborts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void run(const std::string& input) {
    const std::vector<std::uint8_t> bytes(input.begin(), input.end());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

std::vector<std::string> corpus() {
    std::vector<std::string> inputs;
    for (const auto& file : std::filesystem::directory_iterator(BANYAN_CORPUS)) {
        std::ifstream in(file.path(), std::ios::binary);
        inputs.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
    return inputs;
}

TEST(FuzzReplay, EveryInputOfTheCorpus) {
    const auto inputs = corpus();
    ASSERT_FALSE(inputs.empty()) << BANYAN_CORPUS;
    for (const auto& input : inputs) {
        run(input);
    }
}

TEST(FuzzReplay, CutShortAndWithAByteChanged) {
    for (const auto& input : corpus()) {
        const std::size_t step = std::max<std::size_t>(1, input.size() / 200);
        for (std::size_t at = 0; at < input.size(); at += step) {
            run(input.substr(0, at));
            auto changed = input;
            changed[at] = static_cast<char>(changed[at] ^ 0x81);
            run(changed);
        }
    }
}

}  // namespace
