// Two-phase commit, and the fast-path function call: what commits outside of the usual order.
// Nothing of them is mirrored by row; what they change on the primary is measured in their own
// transaction, and becomes suspect with their commit.

#include <set>
#include <utility>

#include "router/session/session_machine.hpp"

namespace banyan::router {

// PREPARE TRANSACTION takes the transaction away from the session, and its mirrored half is rolled
// back: nobody sees its rows yet on the primary either. What it will change is known now or never.
void SessionMachine::prepare_barrier(std::function<void()> send) {
    wait_primary();
    then([this] {
        if (!replies_.skipping() && status_ != 'E') {
            measure_before_the_end();
        }
        return true;
    });
    then([send = std::move(send)] {
        send();
        return true;
    });
}

void SessionMachine::note_prepared(const std::string& gid) {
    PreparedTransactions::Changes changes;
    std::set<TableId> tables;
    for (const auto& write : txn_.writes) {
        tables.insert(write.key.table);
    }
    for (const auto& mark : txn_.suspects) {
        tables.insert(mark.table);
    }
    for (const auto& write : txn_.tables) {
        tables.insert(write.table);
    }
    if (txn_.reload_catalog) {
        changes.catalog = true;
        changes.marks.push_back({0, "ddl_not_mirrored"});
    }
    for (const auto table : tables) {
        changes.marks.push_back({table, "prepared_transaction"});
    }
    port_.prepared_transactions().remember(gid, std::move(changes));
}

// COMMIT PREPARED: its tables are suspect in the journal before it is sent. `decision` stands for
// one that nothing is known of: every table.
void SessionMachine::commit_prepared(const std::string& gid, const Decision& decision,
                                     std::function<void(ReplyHandler)> send) {
    const auto changes = port_.prepared_transactions().find(gid);
    if (changes) {
        txn_.suspects.insert(txn_.suspects.end(), changes->marks.begin(), changes->marks.end());
        if (changes->catalog) {
            note_schema_change();
        }
    } else {
        note_suspects(decision);
    }
    commit_barrier([this, gid, send = std::move(send)] {
        send(on_reply([this, gid, end = commit_on_tag()](char type, std::string_view body,
                                                         std::string_view reply) {
            if (type == 'C') {
                port_.prepared_transactions().forget(gid);
            }
            end->reply(type, body, reply);
        }));
    });
}

// The fast-path call names its function by OID only (large objects, mostly), and outside of a block
// it commits by itself. There it is given a block, so that what it changed can be measured.
void SessionMachine::on_function_call(std::string_view whole) {
    port_.counters().add_reason("opaque", "function_call");
    const std::string message(whole);
    if (in_block_) {
        take_baseline("function_call");
        then([this, message] {
            send_primary(message, Expect::function_call);
            return true;
        });
        return;
    }
    const auto unseen = [](const char* sql) {
        std::string text;
        protocol::encode_query(text, sql);
        return text;
    };
    send_primary(unseen("BEGIN"), Expect::query, absorb());
    wait_primary();
    take_baseline("function_call");
    then([this, message] {
        send_primary(message, Expect::function_call,
                     on_reply([this](char type, std::string_view, std::string_view reply) {
                         if (type != 'Z' && type != 0) {
                             to_client_.append(reply);
                         }
                     }));
        wait_primary();
        return true;
    });
    then([this, unseen] {
        const bool failed = status_ == 'E';
        commit_barrier([this, unseen, failed] {
            send_primary(unseen(failed ? "ROLLBACK" : "COMMIT"), Expect::query,
                         function_call_end());
        });
        return true;
    });
}

ReplyHandler SessionMachine::function_call_end() {
    return on_reply([this](char type, std::string_view body, std::string_view reply) {
        if (type == 'C') {
            const auto word = protocol::word_of_tag(body.substr(0, body.find('\0')));
            commit_refused_ = false;  // the client has the error that undid the call
            commit_decided(word == "COMMIT");
        } else if (type == 'E') {
            to_client_.append(reply);
            commit_decided(false);
        } else if (type == 'Z') {
            to_client_.append(reply);
        }
    });
}

}  // namespace banyan::router
