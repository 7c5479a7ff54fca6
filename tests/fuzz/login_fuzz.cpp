// Logging in to a hostile server: SCRAM, md5, and messages out of order. Real SCRAM steps are among
// the moves, so that what lies behind them is reached. No login is ever done without
// AuthenticationOk, and one that began SCRAM never without the server's proof.
#include <cstdlib>
#include <string>

#include "protocol/login.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/protocol/scram_server.hpp"

using namespace banyan::protocol;

namespace {

std::string authentication(std::uint32_t method, std::string_view data) {
    std::string body;
    put_int32(body, method);
    body.append(data);
    return body;
}

/// Real iterations cost real time.
bool is_slow(std::string_view challenge) {
    const auto at = challenge.find("i=");
    return at != std::string_view::npos && challenge.substr(at + 2).size() > 4;
}

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    banyan::test::Input input(data, size);
    Credentials credentials;
    credentials.user = "app";
    credentials.password.emplace(input.yes() ? "secret" : "");
    Login login(std::move(credentials), "0123456789abcdefghij");
    static const banyan::test::ScramServer known("secret", 4096);  // its key takes long to derive
    auto server = known;
    bool ok_sent = false;
    bool scram_begun = false;
    bool proved = false;
    for (int i = 0; i < 12 && input.left() > 0; ++i) {
        std::string out;
        char type = 'R';
        std::string body;
        bool genuine = false;
        switch (input.number(7)) {
            case 0:
                body = authentication(10, std::string("SCRAM-SHA-256\0\0", 15));
                break;
            case 1:
                body = authentication(11, server.first("n,,n=,r=0123456789abcdefghij"));
                break;
            case 2:
                body = authentication(12, input.text(64));
                break;
            case 3:
                body = authentication(0, "");
                ok_sent = true;
                break;
            case 4:
                body = authentication(5, input.text(8));
                break;
            case 5:
                type = 'Z';
                body = "I";
                break;
            case 6: {
                const auto challenge = input.text(200);
                if (is_slow(challenge)) {
                    return 0;
                }
                body = authentication(11, challenge);
                break;
            }
            default:
                type = static_cast<char>(input.byte());
                body = input.text(300);
                ok_sent = ok_sent || (type == 'R' && body.starts_with(std::string(4, '\0')));
                if (is_slow(body)) {
                    return 0;
                }
        }
        auto state = login.on_message(type, body, out);
        if (state == Login::State::derive) {
            state = login.derived(salt_password(login.password(), login.salt(), login.iterations()),
                                  out);
        }
        scram_begun = scram_begun || out.find("SCRAM-SHA-256") != std::string::npos;
        if (state == Login::State::working && out.find(",p=") != std::string::npos && input.yes()) {
            // The server's proof, if it knows the password too.
            const auto proof = server.final_message(out.substr(header_size));
            std::string ignored;
            genuine = !proof.empty() && login.on_message('R', authentication(12, proof), ignored) ==
                                            Login::State::working;
        }
        proved = proved || genuine;
        if (state == Login::State::ready) {
            require(ok_sent && (!scram_begun || proved));
        }
        if (state != Login::State::working) {
            return 0;
        }
    }
    return 0;
}
