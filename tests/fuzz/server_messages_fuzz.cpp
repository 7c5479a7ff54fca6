// Messages a server sends, and a whole login: the server is input too. The first byte chooses.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "protocol/login.hpp"
#include "protocol/messages.hpp"

using namespace banyan::protocol;

namespace {

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

void log_in(std::string_view bytes) {
    Credentials credentials;
    credentials.user = "app";
    credentials.password.emplace("secret");
    Login login(std::move(credentials), "0123456789abcdefghij");
    const Secret salted("a key of thirty-two bytes, really");
    std::string out;
    // Type, one byte of length, body.
    while (bytes.size() >= 2) {
        const auto size = std::min<std::size_t>(static_cast<unsigned char>(bytes[1]),
                                                bytes.size() - 2);
        auto state = login.on_message(bytes[0], bytes.substr(2, size), out);
        if (state == Login::State::derive) {
            state = login.derived(salted, out);
        }
        if (state != Login::State::working) {
            return;
        }
        bytes.remove_prefix(2 + size);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) {
        return 0;
    }
    const std::size_t count = data[1];
    const std::vector<char> copy(data + 2, data + size);
    const std::string_view body(copy.data(), copy.size());
    switch (data[0] % 4) {
        case 0: {
            const auto fields = decode_row_description(body);
            const auto stripped = strip_row_description(body, count);
            require(stripped.has_value() == (fields.has_value() && fields->size() >= count));
            if (stripped) {
                const auto left =
                    decode_row_description(std::string_view(*stripped).substr(header_size));
                require(left && left->size() + count == fields->size());
            }
            break;
        }
        case 1: {
            std::vector<std::optional<std::string_view>> columns;
            SplitRow row;
            const bool whole = decode_data_row(body, columns);
            const bool split = split_data_row(body, count, row);
            require(split == (whole && columns.size() >= count));
            require(!split || row.kept_count + row.captured.size() == columns.size());
            break;
        }
        case 2: {
            std::string out;
            encode_error_shifted(out, 'E', body, count);
            require(decode_error(std::string_view(out).substr(header_size)).size() ==
                    decode_error(body).size());
            rows_of_tag(body);
            word_of_tag(body);
            break;
        }
        default:
            log_in(body);
    }
    return 0;
}
