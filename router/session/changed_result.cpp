// Prepared statements whose result DDL has changed. PostgreSQL refuses to run them; one that captures
// rows is prepared anew instead, so Banyan has to notice and refuse itself.

#include <algorithm>

#include "router/session/session_machine.hpp"

namespace banyan::router {

// What PostgreSQL compares before it runs a prepared statement again: names, types, modifiers. The
// numbers of types that are not built in differ between the two servers.
std::string SessionMachine::result_shape(std::string_view row_description) {
    constexpr std::uint32_t first_own_type = 16384;
    protocol::Reader reader(row_description.substr(protocol::header_size));
    std::string shape;
    for (std::size_t left = reader.int16(); left > 0 && reader.ok(); --left) {
        shape.append(reader.string()).push_back('\0');
        reader.bytes(6);
        const auto type = reader.int32();
        reader.int16();
        const auto modifier = reader.int32();
        reader.int16();
        shape +=
            std::to_string(std::min(type, first_own_type)) + " " + std::to_string(modifier) + " ";
    }
    return shape;
}

// What PostgreSQL says when DDL has changed the columns of a prepared statement (drivers know it by
// the routine's name). The server is made to fail too: the transaction is over there as well.
void SessionMachine::refuse_changed_result() {
    std::string message;
    protocol::encode_describe(message, 'S', "banyan has no such statement");
    send_primary(message, Expect::describe_statement,
                 on_reply([this](char type, std::string_view, std::string_view reply) {
                     if (type == 'E') {
                         protocol::encode_error(to_client_, "ERROR", "0A000",
                                                "cached plan must not change result type", {},
                                                "RevalidateCachedQuery");
                     } else {
                         to_client_.append(reply);
                     }
                 }));
}

}  // namespace banyan::router
