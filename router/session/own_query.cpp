// Queries of Banyan's own on the primary, between the client's messages and unseen by it.

#include "router/session/session_machine.hpp"

namespace banyan::router {

void SessionMachine::internal_query(std::string sql, bool keep_open, RowsHandler handler) {
    wait_primary();
    then([this, sql = std::move(sql), keep_open, handler = std::move(handler)] {
        if (replies_.skipping() || status_ == 'E') {
            handler(false, {});
            return true;
        }
        // Sync would end the client's implicit transaction.
        const bool sync = in_block_ ? !unsynced_ : !unsynced_ && !keep_open;
        auto rows = std::make_shared<std::vector<Row>>();
        auto ok = std::make_shared<bool>(false);
        const auto unseen = [this, sync, ok] {
            return on_reply([this, sync, ok](char type, std::string_view, std::string_view reply) {
                if (type == 'E' && !sync) {
                    to_client_.append(reply);  // the transaction has failed; the client must know
                }
            });
        };
        std::string message;
        if (query_left_) {
            query_left_ = false;
            protocol::encode_close(message, 'S', "banyan_query");
            send_primary(message, Expect::close, unseen());
            message.clear();
        }
        protocol::encode_parse(message, "banyan_query", sql);
        send_primary(message, Expect::parse, unseen());
        protocol::Bind bind;
        bind.portal = bind.statement = "banyan_query";
        message.clear();
        protocol::encode_bind(message, bind);
        send_primary(message, Expect::bind, unseen());
        message.clear();
        protocol::encode_execute(message, "banyan_query");
        send_primary(message, Expect::execute,
                     on_reply([this, sync, ok, rows](char type, std::string_view body,
                                                     std::string_view reply) {
                         if (type == 'D') {
                             std::vector<std::optional<std::string_view>> columns;
                             protocol::decode_data_row(body, columns);
                             rows->emplace_back(columns.begin(), columns.end());
                         } else if (type == 'C') {
                             *ok = true;
                         } else if (type == 'E') {
                             query_left_ = true;  // the Close behind it is skipped
                             if (!sync) {
                                 to_client_.append(reply);
                             }
                         }
                     }));
        for (const char kind : {'P', 'S'}) {
            message.clear();
            protocol::encode_close(message, kind, "banyan_query");
            send_primary(message, Expect::close, unseen());
        }
        if (sync) {
            message.clear();
            protocol::encode_sync(message);
            send_primary(message, Expect::sync, unseen());
        }
        wait_primary();
        then([ok, rows, handler] {
            handler(*ok, std::move(*rows));
            return true;
        });
        return true;
    });
}

}  // namespace banyan::router
