// The simple query protocol in the mirroring phases. What needs nothing special goes on as it is.
// The rest becomes a *script* of extended messages without Sync: PostgreSQL then keeps its implicit
// transaction open until our Sync, so that Sync is the commit. The client sees the messages that its
// Query would have brought; the last CommandComplete is kept back until the commit is known.

#include <algorithm>

#include "router/session/session_machine.hpp"

namespace banyan::router {

struct SessionMachine::Script {
    std::shared_ptr<const ParsedQuery> parsed;
    std::size_t index = 0;
    bool failed = false;
    bool unnamed_left = false;  ///< a rewritten statement stands under the unnamed name
    /// RowDescription of a statement that runs to its end before it shows its first row (all but
    /// plain SELECT): notices and errors come before it.
    std::string row_description;
};

namespace {

/// Characters (not bytes) before a byte offset: error positions count characters.
std::size_t characters_before(const std::string& text, std::size_t offset) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset),
                      [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

bool is_plain(Route route) { return route == Route::forward || route == Route::settings; }

/// The text of an unreadable query as one statement.
Statement whole_text(const ParsedQuery& parsed) {
    Statement statement;
    statement.kind = StatementKind::write_opaque;
    statement.end = parsed.sql.size();
    return statement;
}

}  // namespace

Decision SessionMachine::decide_statement(const ParsedQuery& query, const Statement& statement) {
    const auto catalog = port_.catalog();
    decided_catalog_version_ = catalog ? catalog->version : 0;
    if (!query.parsed) {
        return decide_unparsed(catalog.get());
    }
    return router::decide(query, statement, route_context(catalog));
}

void SessionMachine::on_query(std::string_view body, std::string_view whole) {
    port_.counters().add(Counter::queries);
    statements_.erase("");
    const auto parsed = port_.parse(body.substr(0, body.find('\0')));
    note_custom_settings(custom_settings_, *parsed);
    // The parameters of a PREPARE are its own.
    const bool prepares = std::any_of(
        parsed->statements.begin(), parsed->statements.end(),
        [](const Statement& it) { return it.kind == StatementKind::prepare; });
    if (parsed->parsed &&
        (parsed->statements.empty() || (parsed->has_parameters && !prepares))) {
        note_ran(false);
        send_primary(whole, Expect::query);  // nothing to run, or refused by the server
        return;
    }
    if (commits_at_sync()) {
        start_script(parsed);  // the extended protocol has left a transaction open: it is committed with this
        return;
    }
    if (const auto names = named_in_sql(*parsed); !names.empty()) {
        stand_plain(names);
        std::string sync;
        protocol::encode_sync(sync);
        send_primary(sync, Expect::sync, on_reply([](char, std::string_view, std::string_view) {}));
        wait_primary();
        then([this, message = std::string(whole)] {
            on_query(std::string_view(message).substr(protocol::header_size), message);
            return true;
        });
        return;
    }
    if (parsed->statements.size() <= 1) {
        const Statement statement =
            parsed->parsed ? parsed->statements.front() : whole_text(*parsed);
        const auto decision = decide_statement(*parsed, statement);
        if (refuses_now(decision)) {
            start_script(parsed);
            return;
        }
        switch (decision.route) {
            case Route::capture:
            case Route::guarded:
            case Route::mirrored_text:
            case Route::copy:
            case Route::refuse:
                start_script(parsed);
                break;
            case Route::suspect:
                if (statement.kind != StatementKind::concurrent_ddl) {
                    start_script(parsed);
                    break;
                }
                [[fallthrough]];
            default:
                count_route(decision);
                forward_query(decision, parsed, whole);
        }
        return;
    }
    bool plain = true;
    bool whole_only = false;
    bool refused = false;
    for (const auto& statement : parsed->statements) {
        const auto decision = decide_statement(*parsed, statement);
        plain = plain && is_plain(decision.route) && statement.kind != StatementKind::deallocate;
        refused = refused || refuses_now(decision);
        // Refused by the server among other statements, as long as they come to it in one message.
        whole_only = whole_only || statement.kind == StatementKind::concurrent_ddl ||
                     statement.kind == StatementKind::self_committing;
    }
    note_ran(false);
    if (plain) {
        // A SET among them may change what a later one means; none of them writes.
        send_primary(whole, Expect::query, on_reply([this](char type, std::string_view,
                                                           std::string_view reply) {
                         to_client_.append(reply);
                         settings_stale_ = settings_stale_ || type == 'C';
                     }));
    } else if (whole_only && !refused) {
        const std::string message(whole);
        txn_.suspects.push_back({0, "self_committing_in_script"});
        commit_barrier([this, message] {
            send_primary(message, Expect::query, commit_on_ready());
        });
    } else {
        start_script(parsed);
    }
}

// One statement that needs no rewriting.
void SessionMachine::forward_query(const Decision& decision,
                                   const std::shared_ptr<const ParsedQuery>& parsed,
                                   std::string_view whole) {
    const auto& statement = parsed->statements.front();
    const std::string message(whole);
    switch (decision.route) {
        case Route::forward:
            if (shadow_ && decision.shadow_skip.empty()) {
                if (auto shadow = start_shadow(*parsed, statement)) {
                    send_primary(whole, Expect::query, shadow_tap(shadow));
                    shadow_simple(shadow);
                    return;
                }
            }
            note_unshadowed(decision);
            if (!leaves_traces(statement)) {
                send_primary(whole, Expect::query);
                return;
            }
            break;
        case Route::commit:
            commit_barrier([this, message, chain = statement.chain] {
                send_primary(message, Expect::query, commit_on_tag(chain));
            });
            return;
        case Route::prepare_transaction:
            prepare_barrier([this, message, decision, parsed] {
                send_primary(message, Expect::query, statement_watch(decision, parsed, 0));
            });
            return;
        case Route::commit_prepared:
            if (!in_block_) {  // inside of one the server refuses it
                commit_prepared(statement.name, decision, [this, message](ReplyHandler handler) {
                    send_primary(message, Expect::query, std::move(handler));
                });
                return;
            }
            break;
        case Route::suspect:
            note_suspects(decision);
            if (!in_block_) {  // inside of one the server refuses it
                commit_barrier([this, message] {
                    send_primary(message, Expect::query, commit_on_ready());
                });
                return;
            }
            break;
        default:
            break;
    }
    send_primary(whole, Expect::query, statement_watch(decision, parsed, 0));
}

void SessionMachine::start_script(std::shared_ptr<const ParsedQuery> parsed) {
    auto script = std::make_shared<Script>();
    script->parsed = std::move(parsed);
    statement_failed_ = false;
    in_script_ = true;
    then([this, script] { return script_next(script); });
}

bool SessionMachine::script_next(const std::shared_ptr<Script>& script) {
    const auto& parsed = *script->parsed;
    const std::size_t count = parsed.parsed ? parsed.statements.size() : 1;
    if (script->failed || replies_.skipping() || script->index == count) {
        script_end(script);
        return true;
    }
    if (settings_stale_ && script->index > 0) {
        sync_settings();
        then([this, script] { return script_next(script); });
        return true;
    }
    const Statement statement =
        parsed.parsed ? parsed.statements[script->index] : whole_text(parsed);
    if (const auto decision = decide_statement(parsed, statement);
        decision.route == Route::refuse) {
        count_route(decision);
        refuse_schema_change([script] { script->failed = true; });
    } else if (refuses_now(decision)) {
        count_route(decision);
        refuse_write([script] { script->failed = true; });
    } else {
        script_statement(script, statement);
    }
    then([this, script] {
        ++script->index;
        return script_next(script);
    });
    return true;
}

void SessionMachine::script_statement(const std::shared_ptr<Script>& script,
                                      const Statement& statement) {
    const auto& parsed = *script->parsed;
    auto prepared = std::make_shared<Prepared>();
    prepared->sql = parsed.sql.substr(statement.begin, statement.end - statement.begin);
    prepared->parsed = script->parsed;
    prepared->decision = decide_statement(parsed, statement);
    prepared->described_types.emplace();
    const auto& decision = prepared->decision;
    count_route(decision);
    port_.counters().add(Counter::queries);
    const std::size_t shift = characters_before(parsed.sql, statement.begin);
    std::shared_ptr<Capture> capture;
    std::shared_ptr<CopyIn> copy;
    if (statement.kind == StatementKind::copy_from && statement.from_stdin) {
        copy = prepare_copy(decision);
        copy->scripted = true;
    } else if (decision.capture) {
        capture = std::make_shared<Capture>();
        capture->plan = decision.capture;
        capture->catalog_version = decided_catalog_version_;
        script->unnamed_left = true;
        wait_mirror_login();
        if (decision.measure) {
            take_baseline("trigger_or_cascade");
            txn_.opaque = txn_.opaque || capture->plan->table->user_triggers;
        }
    } else if (decision.route != Route::commit) {
        prepare_uncaptured(decision);
    }
    then([this, script, prepared, shift] {
        std::string message;
        protocol::encode_parse(
            message, "",
            prepared->decision.capture ? prepared->decision.capture->sql : prepared->sql);
        send_primary(message, Expect::parse, script_error(script, shift));
        wrote_ = wrote_ || prepared->decision.capture != nullptr;
        if (client_returning(*prepared)) {
            describe_unseen("", prepared);
            wait_primary();
        }
        return true;
    });
    if (capture) {
        run_before_queries(capture, prepared, {});
    }
    const bool streams = statement.kind == StatementKind::read && statement.tag == "SelectStmt";
    auto send = [this, script, prepared, capture, copy, shift, streams] {
        if (replies_.skipping()) {
            return;
        }
        protocol::Bind bind;
        if (capture) {
            bind.result_formats.resize(
                capture->plan->client_returning ? prepared->client_columns.value_or(0) : 0, 0);
            const auto formats = capture->plan->formats();
            bind.result_formats.insert(bind.result_formats.end(), formats.begin(), formats.end());
        }
        std::string message;
        protocol::encode_bind(message, bind);
        send_primary(message, Expect::bind, script_error(script, shift));
        message.clear();
        if (!capture || capture->plan->client_returning) {
            protocol::encode_describe(message, 'P', "");
            send_primary(message, Expect::describe_portal,
                         script_columns(script, prepared, streams));
            message.clear();
        }
        protocol::encode_execute(message, "");
        auto reply = script_reply(script, prepared, capture, shift);
        send_primary(message, Expect::execute,
                     copy ? copy_watch(copy, std::move(reply)) : std::move(reply));
        wait_primary();
        if (copy) {
            then([copy] { return copy->over; });
        }
    };
    if (decision.route == Route::commit) {
        commit_barrier(send);
    } else if (decision.route == Route::prepare_transaction) {
        prepare_barrier(send);
    } else {
        then([send] {
            send();
            return true;
        });
        if (decision.deep) {
            take_captured();
        }
    }
}

ReplyHandler SessionMachine::script_error(const std::shared_ptr<Script>& script,
                                          std::size_t shift) {
    return on_reply([this, script, shift](char type, std::string_view body, std::string_view) {
        if (type == 'E') {
            script->failed = true;
            protocol::encode_error_shifted(to_client_, 'E', body, shift);
        }
    });
}

// RowDescription as a simple Query would bring it: none for a statement that returns nothing.
ReplyHandler SessionMachine::script_columns(const std::shared_ptr<Script>& script,
                                            const PreparedPtr& prepared, bool streams) {
    script->row_description.clear();
    const std::size_t captured =
        prepared->decision.capture ? prepared->decision.capture->width() : 0;
    return on_reply([this, script, captured, streams](char type, std::string_view body,
                                                      std::string_view) {
        if (type == 'T') {
            const auto stripped = protocol::strip_row_description(body, captured);
            if (stripped) {
                (streams ? to_client_ : script->row_description).append(*stripped);
            } else {
                violation("a RowDescription without the captured columns");
            }
        }
    });
}

ReplyHandler SessionMachine::script_reply(const std::shared_ptr<Script>& script,
                                          const PreparedPtr& prepared,
                                          const std::shared_ptr<Capture>& capture,
                                          std::size_t shift) {
    const auto index = script->index;
    const bool last = !script->parsed->parsed || index + 1 == script->parsed->statements.size();
    auto inner = capture ? row_stripper(capture) : nullptr;
    const bool commits = prepared->decision.route == Route::commit;
    return on_reply([this, script, prepared, inner, shift, index, last, commits](
                        char type, std::string_view body, std::string_view reply) {
        if (type == 'D' || type == 'C') {
            to_client_.append(script->row_description);
            script->row_description.clear();
        }
        if (type == 'E') {
            script->failed = true;
            protocol::encode_error_shifted(to_client_, 'E', body, shift);
            if (commits) {
                commit_decided(false);
            }
        } else if (type == 'C') {
            const auto before = to_client_.size();
            if (inner) {
                inner->reply(type, body, reply);
            } else {
                if (commits) {
                    commit_decided(protocol::word_of_tag(body.substr(0, body.find('\0'))) ==
                                   "COMMIT");
                    in_block_ = script->parsed->statements[index].chain;
                } else {
                    after_statement(prepared->decision, prepared->sql, *script->parsed, index,
                                    body.substr(0, body.find('\0')));
                }
                to_client_.append(reply);
            }
            if (last && !in_block_ && !commits) {
                held_tail_.append(to_client_, before);
                to_client_.resize(before);
            }
        } else if (type == 'D' && inner) {
            inner->reply(type, body, reply);
        } else if (type != 0) {
            to_client_.append(reply);
        }
    });
}

void SessionMachine::script_end(const std::shared_ptr<Script>& script) {
    in_script_ = false;
    // With the Sync, not before it: it needs no round trip of its own.
    const auto close_unnamed = [this, script] {
        if (script->unnamed_left && !replies_.skipping()) {
            std::string message;
            protocol::encode_close(message, 'S', "");
            send_primary(message, Expect::close, absorb());
        }
    };
    if (script->failed || replies_.skipping() || in_block_) {
        // Not a commit: inside a block Sync ends nothing, and after an error it rolls back.
        close_unnamed();
        std::string message;
        protocol::encode_sync(message);
        if (commit_refused_) {
            held_tail_.clear();
            send_primary(message, Expect::sync, unseen());
            roll_back_refused();
            return;
        }
        send_primary(message, Expect::sync,
                     on_reply([this](char type, std::string_view, std::string_view reply) {
                         if (type == 'Z' && !statement_failed_) {
                             to_client_.append(held_tail_);
                         }
                         held_tail_.clear();
                         to_client_.append(reply);
                     }));
        return;
    }
    commit_barrier([this, close_unnamed] {
        close_unnamed();
        std::string message;
        protocol::encode_sync(message);
        send_primary(message, Expect::sync, commit_on_ready());
    });
}

}  // namespace banyan::router
