// What RETURNING cannot show of an UPDATE or DELETE is asked before it runs: the keys it replaces, the
// rows that foreign keys carry along (router/sql/before.hpp).

#include <set>

#include "router/session/session_machine.hpp"

namespace banyan::router {

// With the statement's own parameters, in its transaction.
void SessionMachine::run_before_queries(const std::shared_ptr<Capture>& capture,
                                        const PreparedPtr& prepared,
                                        const std::string& bind_body) {
    for (std::size_t i = 0; i < capture->plan->before.size(); ++i) {
        wait_primary();
        then([this, capture, prepared, bind_body, i] {
            if (replies_.skipping()) {
                return true;
            }
            const BeforeQuery& query = capture->plan->before[i];
            std::string message;
            protocol::encode_parse(
                message, "banyan_before", query.sql,
                prepared ? prepared->described_types.value_or(prepared->types)
                         : std::vector<std::uint32_t>{});
            send_primary(message, Expect::parse, absorb());
            protocol::Bind bind;
            if (!bind_body.empty()) {
                bind = protocol::decode_bind(bind_body).value_or(protocol::Bind{});
            }
            bind.portal = "banyan_before";
            bind.statement = "banyan_before";
            bind.result_formats = {1};
            message.clear();
            protocol::encode_bind(message, bind);
            send_primary(message, Expect::bind, absorb());
            message.clear();
            protocol::encode_execute(message, "banyan_before");
            send_primary(message, Expect::execute, before_rows(capture, i));
            for (const char kind : {'P', 'S'}) {
                message.clear();
                protocol::encode_close(message, kind, "banyan_before");
                send_primary(message, Expect::close, absorb());
            }
            wait_primary();
            return true;
        });
    }
}

ReplyHandler SessionMachine::before_rows(const std::shared_ptr<Capture>& capture, std::size_t i) {
    auto seen = std::make_shared<std::set<std::string>>();
    return on_reply([this, capture, i, seen](char type, std::string_view body,
                                             std::string_view reply) {
        const BeforeQuery& query = capture->plan->before[i];
        if (type == 'D') {
            std::vector<std::optional<std::string_view>> columns;
            protocol::decode_data_row(body, columns);
            RowKey key{query.table->id, {}};
            for (const auto& column : columns) {
                append_key_column(key.bytes, column.value_or(std::string_view{}));
            }
            if (!seen->insert(key.bytes).second) {
                return;
            }
            if (query.own_rows && (!query.erases || capture->plan->op == WriteOp::erase)) {
                return;  // RETURNING shows them
            }
            if (mutant(query.own_rows ? "changed_key_forgotten" : "cascade_not_asked")) {
                ++txn_.captured_rows[query.table->id];
                return;
            }
            for (const auto& table : with_siblings(query.table)) {
                const bool by_repair = table->mapped() && table->mapping->by_repair();
                const auto write = note_write(
                    *table, {{table->id, key.bytes}, query.erases, !query.erases || by_repair});
                if (query.erases && !by_repair && mirror_usable()) {
                    begin_mirror();
                    mirror_.erase(*table, capture->catalog_version, key.bytes, write,
                                  mirror_out());
                }
            }
            // An UPDATE that leaves the referenced value as it was carries nothing along: what was
            // listed for it must not stand for what something else changes.
            if (!query.own_rows && capture->plan->op == WriteOp::erase) {
                ++txn_.captured_rows[query.table->id];
            }
        } else if (type == 'C') {
            mirror_.end_group(mirror_out());
            if (query.own_rows) {
                capture->expected_rows = seen->size();
            }
        } else if (type == 'E') {
            to_client_.append(reply);
        }
    });
}

}  // namespace banyan::router
