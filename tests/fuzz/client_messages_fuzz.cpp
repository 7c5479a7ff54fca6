// Messages a client sends: what is decoded says all that the bytes said, so encoding it gives the
// same bytes again. The first byte chooses the message.
#include <cstdlib>
#include <string>
#include <vector>

#include "protocol/messages.hpp"

using namespace banyan::protocol;

namespace {

void same(const std::string& encoded, std::string_view body, std::size_t header) {
    if (std::string_view(encoded).substr(header) != body) {
        std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    // A copy of its own, so that AddressSanitizer sees a read beyond the end.
    const std::vector<char> copy(data + 1, data + size);
    const std::string_view body(copy.data(), copy.size());
    std::string out;
    switch (data[0] % 5) {
        case 0:
            if (const auto parse = decode_parse(body)) {
                encode_parse(out, parse->statement, parse->query, parse->parameter_types);
                same(out, body, header_size);
            }
            break;
        case 1:
            if (const auto bind = decode_bind(body)) {
                encode_bind(out, *bind);
                same(out, body, header_size);
                bind->parameter_format(bind->parameters.size());
            }
            break;
        case 2:
            if (const auto execute = decode_execute(body)) {
                encode_execute(out, execute->portal, execute->max_rows);
                same(out, body, header_size);
            }
            break;
        case 3:
            if (const auto named = decode_named(body)) {
                encode_describe(out, named->kind, named->name);
                same(out, body, header_size);
            }
            break;
        default:
            if (const auto startup = decode_startup(protocol_3_0, body)) {
                encode_startup(out, *startup);
                same(out, body, 8);
            }
    }
    return 0;
}
