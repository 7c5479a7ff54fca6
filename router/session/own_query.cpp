// Queries of Banyan's own on the primary, between the client's messages and unseen by it.

#include "router/session/session_machine.hpp"

namespace banyan::router {

void SessionMachine::internal_query(std::string sql, bool keep_open, RowsHandler handler) {
    auto rows = std::make_shared<std::vector<Row>>();
    own_query({std::move(sql), keep_open, false,
               [rows](const RowView& columns) {
                   rows->emplace_back(columns.begin(), columns.end());
               },
               [rows, handler = std::move(handler)](bool ok) { handler(ok, std::move(*rows)); }});
}

void SessionMachine::own_query(OwnQuery query) {
    wait_primary();
    then([this, query = std::make_shared<OwnQuery>(std::move(query))] {
        if (replies_.skipping() || status_ == 'E') {
            query->done(false);
            return true;
        }
        // Sync would end the client's implicit transaction, and the client's Query if it is a script.
        const bool sync = !in_script_ && !unsynced_ && (in_block_ || !query->keep_open);
        const bool tell = !sync || ending_block_;  // what fails the client's transaction
        auto ok = std::make_shared<bool>(false);
        const auto failed = [this, tell, query](std::string_view error) {
            if (tell) {
                to_client_.append(query->refusal.empty() ? error : query->refusal);
            }
            commit_refused_ = commit_refused_ || ending_block_;
        };
        const auto unseen = [failed] {
            return on_reply([failed](char type, std::string_view, std::string_view reply) {
                if (type == 'E') {
                    failed(reply);
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
        protocol::encode_parse(message, "banyan_query", query->sql);
        send_primary(message, Expect::parse, unseen());
        protocol::Bind bind;
        bind.portal = bind.statement = "banyan_query";
        if (query->binary) {
            bind.result_formats = {1};
        }
        message.clear();
        protocol::encode_bind(message, bind);
        send_primary(message, Expect::bind, unseen());
        message.clear();
        protocol::encode_execute(message, "banyan_query");
        send_primary(message, Expect::execute,
                     on_reply([this, failed, ok, query](char type, std::string_view body,
                                                      std::string_view reply) {
                         if (type == 'D') {
                             RowView columns;
                             protocol::decode_data_row(body, columns);
                             if (query->row) {
                                 query->row(columns);
                             }
                         } else if (type == 'C') {
                             *ok = true;
                         } else if (type == 'E') {
                             query_left_ = true;  // the Close behind it is skipped
                             failed(reply);
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
        then([ok, query] {
            query->done(*ok);
            return true;
        });
        return true;
    });
}

}  // namespace banyan::router
