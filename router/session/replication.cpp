// Replication connections: what a startup message asks for, and the relay. Neither direction is
// tracked: the stream may switch to both ways (CopyBothResponse) and never come back. The server's
// messages are still cut, so that an error of Banyan's own is never put inside one of them.

#include "router/session/replication.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "router/session/session_machine.hpp"

namespace banyan::router {

Replication replication_of(std::string_view value) {
    std::string word(value);
    std::transform(word.begin(), word.end(), word.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (value == "database") {
        return Replication::logical;
    }
    // Any beginning of these words will do; "o" alone could be either.
    constexpr std::array<std::string_view, 3> offs = {"false", "no", "off"};
    const bool off = word.empty() || word == "0" ||
                     (word != "o" && std::any_of(offs.begin(), offs.end(), [&](auto each) {
                          return each.starts_with(word);
                      }));
    return off ? Replication::none : Replication::physical;
}

bool SessionMachine::accept_replication() {
    if (replication_ == Replication::none || (!mirrors(phase_) && !held_)) {
        return true;
    }
    fail_session("0A000",
                 "replication connections are not served in phase " +
                     std::string(to_string(phase_)) + ": they could not follow the primary",
                 "Connect to the database server itself; Banyan relays replication in INITIAL and "
                 "COMPLETE.");
    return false;
}

void SessionMachine::relay_replication() {
    const std::string_view waiting = std::string_view(client_in_).substr(client_at_);
    primary_out().append(waiting);
    client_at_ = client_in_.size();
}

void SessionMachine::replication_message(char type, std::string_view body, std::string_view whole) {
    if (type == 'E') {
        note_fatal(body);
    }
    to_client_.append(whole);
}

// A stream of the source's changes is worth nothing once writes go elsewhere too: it ends before
// the phase does.
void SessionMachine::replication_directive(const Directive& directive) {
    if (mirrors(directive.phase) || directive.hold) {
        fail_session("57P01",
                     "terminating replication connection: the migration leaves the phase " +
                         std::string(to_string(phase_)),
                     "Connect to the database server itself.");
    }
    adopt(directive);
}

}  // namespace banyan::router
