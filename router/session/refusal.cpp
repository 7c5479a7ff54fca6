// Changes of the schema that [mirror] ddl refuses.

#include "router/session/session_machine.hpp"

namespace banyan::router {

// Nothing of the statement reaches the primary, but it is made to fail there: its transaction is as
// aborted as the client is told, up to the next Sync, savepoint or ROLLBACK.
void SessionMachine::refuse_schema_change(std::function<void()> refused) {
    std::string message;
    protocol::encode_describe(message, 'S', "banyan refuses this statement");
    send_primary(
        message, Expect::describe_statement,
        on_reply([this, refused = std::move(refused)](char type, std::string_view,
                                                      std::string_view reply) {
            if (type != 'E') {
                to_client_.append(reply);
                return;
            }
            protocol::encode_error(
                to_client_, "ERROR", "55000",
                "schema changes are refused in phase " + std::string(to_string(phase_)),
                "A migration is under way. Run it before or after, or have [mirror] ddl of "
                "Banyan's configuration changed.");
            if (refused) {
                refused();
            }
        }));
    wait_primary();
}

}  // namespace banyan::router
