// The extended query protocol in the mirroring phases: what is sent in place of the client's Parse,
// Bind, Describe and Execute, and how the answers are made to look untouched.

#include "router/session/session_machine.hpp"

namespace banyan::router {

RouteContext SessionMachine::route_context(const std::shared_ptr<const Catalog>& catalog) const {
    return {catalog.get(),
            &search_path_,
            &temporary_tables_,
            &role_,
            config_.mirror.ddl_policy(phase_),
            txn_.reload_catalog};
}

// Decisions hold for one catalogue version and one state of the session's settings.
void SessionMachine::decide(Prepared& prepared) {
    const auto catalog = port_.catalog();
    const auto version = catalog ? catalog->version : 0;
    if (version != decided_catalog_version_) {
        decided_catalog_version_ = version;
        ++decision_generation_;
    }
    if (prepared.decided_generation == decision_generation_) {
        return;
    }
    if (!prepared.parsed) {
        prepared.parsed = port_.parse(prepared.sql);
    }
    const auto& parsed = *prepared.parsed;
    if (!parsed.parsed) {
        prepared.decision = decide_unparsed(catalog.get());
    } else if (parsed.statements.size() == 1) {
        prepared.decision =
            router::decide(parsed, parsed.statements.front(), route_context(catalog));
    } else {
        prepared.decision = Decision{};  // empty, or refused by the server
        prepared.decision.shadow_skip = "not_select";
    }
    prepared.decided_generation = decision_generation_;
}

bool SessionMachine::client_returning(const Prepared& prepared) const {
    return prepared.decision.capture && prepared.decision.capture->client_returning;
}

void SessionMachine::on_parse(std::string_view body, std::string_view whole) {
    const auto parse = protocol::decode_parse(body);
    if (!parse) {
        fail_session("08P01", "malformed Parse message");
        return;
    }
    const std::string name(parse->statement);
    if (too_many_statements(name)) {
        refuse_parse();
        return;
    }
    auto prepared = std::make_shared<Prepared>();
    prepared->sql = parse->query;
    prepared->types = parse->parameter_types;
    decide(*prepared);
    stand_plain(named_in_sql(*prepared->parsed));
    note_custom_settings(custom_settings_, *prepared->parsed);
    const auto previous = statements_.find(name);
    const PreparedPtr replaced = previous == statements_.end() ? nullptr : previous->second;
    statements_[name] = prepared;
    const bool captured = prepared->decision.route == Route::capture;
    prepared->form = captured ? Prepared::Form::captured : Prepared::Form::plain;
    prepared->form_generation = decision_generation_;
    // If the server refuses, a named statement of that name lives on; the unnamed one is gone.
    auto sink = on_reply([this, name, prepared, replaced](char type, std::string_view,
                                                          std::string_view reply) {
        to_client_.append(reply);
        const auto now = statements_.find(name);
        if (type != '1' && now != statements_.end() && now->second == prepared) {
            if (replaced && !name.empty()) {
                now->second = replaced;
            } else {
                statements_.erase(now);
            }
        }
    });
    if (!captured) {
        send_primary(whole, Expect::parse, std::move(sink));
        return;
    }
    std::string message;
    protocol::encode_parse(message, name, prepared->decision.capture->sql, prepared->types);
    send_primary(message, Expect::parse, std::move(sink));
    if (client_returning(*prepared) || !prepared->decision.capture->before.empty()) {
        describe_unseen(name, prepared);
    }
}

// Learns parameter types and the number of columns, unseen by the client.
void SessionMachine::describe_unseen(const std::string& name, const PreparedPtr& prepared) {
    std::string message;
    protocol::encode_describe(message, 'S', name);
    send_primary(message, Expect::describe_statement, column_stripper(prepared, false));
}

// Makes the statement stand on the primary in the form its decision needs.
void SessionMachine::ensure_form(const std::string& name, const PreparedPtr& prepared) {
    const bool captured = prepared->decision.route == Route::capture;
    const auto form = captured ? Prepared::Form::captured : Prepared::Form::plain;
    const bool stale = captured && prepared->form_generation != decision_generation_;
    if (prepared->form == form && !stale) {
        return;
    }
    std::string message;
    if (prepared->form == Prepared::Form::plain && captured && client_returning(*prepared)) {
        // Has DDL changed its columns? The server says so itself, as long as it stands there.
        protocol::encode_describe(message, 'S', name);
        send_primary(message, Expect::describe_statement,
                     on_reply([this, prepared](char type, std::string_view, std::string_view reply) {
                         if (type == 'E') {
                             prepared->form = Prepared::Form::plain;
                             to_client_.append(reply);
                         } else if (type == 'T' && prepared->result.empty()) {
                             prepared->result = result_shape(reply);
                         }
                     }));
        message.clear();
    }
    if (prepared->form != Prepared::Form::none || name.empty()) {
        protocol::encode_close(message, 'S', name);
        send_primary(message, Expect::close, absorb());
        message.clear();
    }
    const auto& sql = captured ? prepared->decision.capture->sql : prepared->sql;
    protocol::encode_parse(message, name, sql, prepared->types);
    send_primary(message, Expect::parse, absorb());
    prepared->form = form;
    prepared->form_generation = decision_generation_;
    prepared->client_columns.reset();
    prepared->described_types.reset();
    if (captured && (client_returning(*prepared) || !prepared->decision.capture->before.empty())) {
        describe_unseen(name, prepared);
    }
}

// Replies to messages the client never sent; only their errors are the client's.
ReplyHandler SessionMachine::absorb() {
    return on_reply([this](char type, std::string_view, std::string_view reply) {
        if (type == 'E') {
            to_client_.append(reply);
        }
    });
}

// Replies to what Banyan does for itself: none of it is the client's, errors neither.
ReplyHandler SessionMachine::unseen() {
    return on_reply([](char, std::string_view, std::string_view) {});
}

ReplyHandler SessionMachine::column_stripper(const PreparedPtr& prepared, bool to_client) {
    return on_reply([this, prepared, to_client](char type, std::string_view body,
                                                std::string_view reply) {
        if (type == 't') {
            protocol::Reader reader(body);
            std::vector<std::uint32_t> types(reader.int16());
            for (auto& oid : types) {
                oid = reader.int32();
            }
            prepared->described_types = std::move(types);
        }
        if (type == 'T' && prepared->decision.capture) {
            const auto captured = prepared->decision.capture->width();
            protocol::Reader reader(body);
            const std::size_t count = reader.int16();
            auto stripped = protocol::strip_row_description(body, captured);
            if (!stripped) {
                violation("a RowDescription without the captured columns");
                return;
            }
            prepared->client_columns = count - captured;
            std::string shape = result_shape(*stripped);
            prepared->result_changed = !prepared->result.empty() && prepared->result != shape;
            if (prepared->result.empty()) {
                prepared->result = std::move(shape);
            }
            if (to_client) {
                if (prepared->decision.capture->client_returning) {
                    to_client_.append(*stripped);
                } else {
                    protocol::encode_no_data(to_client_);
                }
            }
        } else if (to_client || type == 'E') {
            to_client_.append(reply);
        }
    });
}

void SessionMachine::on_bind(std::string_view body, std::string_view whole) {
    const auto bind = protocol::decode_bind(body);
    if (!bind) {
        fail_session("08P01", "malformed Bind message");
        return;
    }
    const std::string name(bind->statement);
    const auto found = statements_.find(name);
    if (found == statements_.end()) {
        portals_.erase(std::string(bind->portal));
        if (name.empty()) {
            // An unnamed statement of ours may stand there; the client's does not.
            std::string message;
            protocol::encode_close(message, 'S', "");
            send_primary(message, Expect::close, absorb());
        }
        send_primary(whole, Expect::bind);
        return;
    }
    const PreparedPtr prepared = found->second;
    decide(*prepared);
    if (prepared->decision.route == Route::settings && prepared->parsed->parsed &&
        calls_set_config(prepared->parsed->statements.front())) {
        for (const auto& parameter : bind->parameters) {
            note_custom_setting(custom_settings_, parameter.value_or(std::string_view{}));
        }
    }
    ensure_form(name, prepared);
    const bool needs_columns = client_returning(*prepared) && !prepared->client_columns;
    const bool prepared_again = !prepared->result.empty();
    if (needs_columns && (bind->result_formats.size() <= 1 || prepared_again)) {
        const std::string message(whole);
        wait_primary();
        then([this, message, prepared] {
            if (!replies_.skipping() && prepared->result_changed) {
                refuse_changed_result();
            } else if (!replies_.skipping()) {
                const auto again =
                    protocol::decode_bind(std::string_view(message).substr(protocol::header_size));
                send_bind(*again, prepared, message);
            }
            return true;
        });
        return;
    }
    if (client_returning(*prepared) && prepared->result_changed) {
        refuse_changed_result();
        return;
    }
    send_bind(*bind, prepared, whole);
}

void SessionMachine::send_bind(const protocol::Bind& bind, const PreparedPtr& prepared,
                               std::string_view whole) {
    Portal portal{prepared, nullptr, {}};
    const auto& decision = prepared->decision;
    const bool needed_again =
        (decision.capture && !decision.capture->before.empty()) ||
        (shadow_ && shadows(phase_) && decision.route == Route::forward &&
         decision.shadow_skip.empty());
    if (needed_again) {
        portal.bind = whole.substr(protocol::header_size);
    }
    portals_[std::string(bind.portal)] = std::move(portal);
    if (!decision.capture) {
        send_primary(whole, Expect::bind);
        return;
    }
    protocol::Bind sent = bind;
    std::size_t client_columns = 0;
    if (decision.capture->client_returning) {
        client_columns = bind.result_formats.size() > 1 ? bind.result_formats.size()
                                                        : prepared->client_columns.value_or(0);
    }
    const std::uint16_t all =
        bind.result_formats.size() == 1 ? bind.result_formats[0] : std::uint16_t{0};
    sent.result_formats.resize(client_columns, all);
    const auto formats = decision.capture->formats();
    sent.result_formats.insert(sent.result_formats.end(), formats.begin(), formats.end());
    std::string message;
    protocol::encode_bind(message, sent);
    send_primary(message, Expect::bind);
}

void SessionMachine::on_describe(std::string_view body, std::string_view whole) {
    const auto named = protocol::decode_named(body);
    if (!named) {
        fail_session("08P01", "malformed Describe message");
        return;
    }
    PreparedPtr prepared;
    if (named->kind == 'S') {
        const auto found = statements_.find(std::string(named->name));
        if (found != statements_.end()) {
            prepared = found->second;
            ensure_form(std::string(named->name), prepared);
        }
    } else {
        const auto found = portals_.find(std::string(named->name));
        prepared = found == portals_.end() ? nullptr : found->second.prepared;
    }
    const auto expect =
        named->kind == 'S' ? Expect::describe_statement : Expect::describe_portal;
    const bool captured = prepared && prepared->form == Prepared::Form::captured;
    send_primary(whole, expect, captured ? column_stripper(prepared, true) : nullptr);
}

void SessionMachine::on_close(std::string_view body, std::string_view whole) {
    const auto named = protocol::decode_named(body);
    if (!named) {
        fail_session("08P01", "malformed Close message");
        return;
    }
    if (named->kind == 'S') {
        statements_.erase(std::string(named->name));
    } else {
        portals_.erase(std::string(named->name));
    }
    send_primary(whole, Expect::close);
}

void SessionMachine::on_execute(std::string_view body, std::string_view whole) {
    const auto execute = protocol::decode_execute(body);
    if (!execute) {
        fail_session("08P01", "malformed Execute message");
        return;
    }
    port_.counters().add(Counter::queries);
    const auto found = portals_.find(std::string(execute->portal));
    if (found == portals_.end()) {
        note_ran(false);
        send_primary(whole, Expect::execute);
        return;
    }
    Portal& portal = found->second;
    if (portal.held) {
        wait_primary();
        then([this, held = portal.held, limit = execute->max_rows] {
            emit_held(*held, limit);
            return true;
        });
        return;
    }
    const auto& decision = portal.prepared->decision;
    count_route(decision);
    if (decision.route == Route::forward && decision.shadow_skip.empty() && shadow_ &&
        execute->max_rows == 0 && !portal.bind.empty()) {
        const auto& parsed = *portal.prepared->parsed;
        if (auto shadow = start_shadow(parsed, parsed.statements.front())) {
            send_primary(whole, Expect::execute, shadow_tap(shadow));
            shadow_extended(shadow, *portal.prepared, portal.bind);
            return;
        }
    }
    if (refuses_now(decision)) {
        refuse_write(nullptr);
        return;
    }
    switch (decision.route) {
        case Route::forward:
            note_unshadowed(decision);
            send_primary(whole, Expect::execute, trace_watch(*portal.prepared));
            break;
        case Route::capture:
            execute_captured(portal, std::string(execute->portal), execute->max_rows);
            break;
        case Route::copy:
            execute_copy(*portal.prepared, whole);
            break;
        case Route::suspect:
            note_suspects(decision);
            send_primary(whole, Expect::execute);  // COPY: its data comes before anything else
            break;
        case Route::refuse:
            refuse_schema_change(nullptr);
            break;
        case Route::commit: {
            const std::string message(whole);
            if (!prepares_can_wait()) {
                wait_primary();
            }
            const bool chain = portal.prepared->parsed->statements.front().chain;
            commit_once_safe([this, message, chain] {
                send_primary(message, Expect::execute, commit_on_tag(chain));
                // Whether what follows is in a block must be known, or that nothing does before Sync.
                if (!in_block_ || !sync_follows()) {
                    wait_primary();
                }
            });
            break;
        }
        case Route::commit_prepared:
            if (!in_block_) {  // inside of one the server refuses it
                const std::string message(whole);
                commit_prepared(portal.prepared->parsed->statements.front().name, decision,
                                [this, message](ReplyHandler handler) {
                                    send_primary(message, Expect::execute, std::move(handler));
                                    protocol::encode_flush(primary_out());
                                });
                break;
            }
            send_primary(whole, Expect::execute);
            break;
        case Route::prepare_transaction: {
            const std::string message(whole);
            const auto prepared = portal.prepared;
            prepare_barrier([this, message, prepared] {
                send_primary(message, Expect::execute,
                             statement_watch(prepared->decision, prepared->parsed, 0));
                wait_primary();
            });
            break;
        }
        default: {
            if (portal.prepared->parsed->parsed &&
                portal.prepared->parsed->statements.front().from_stdin) {
                execute_copy(*portal.prepared, whole);
                break;
            }
            const std::string message(whole);
            const auto prepared = portal.prepared;
            prepare_uncaptured(decision);
            then([this, message, prepared] {
                send_primary(message, Expect::execute,
                             statement_watch(prepared->decision, prepared->parsed, 0));
                if (prepared->decision.route == Route::begin && sync_follows() &&
                    !commits_at_sync()) {
                    return true;  // ReadyForQuery tells the rest
                }
                wait_primary();
                if (prepared->decision.deep) {
                    take_captured();
                }
                return true;
            });
        }
    }
}

// As PortalRunSelect: a portal that gave as many rows as were asked for may have more.
void SessionMachine::emit_held(HeldRows& held, std::uint32_t max_rows) {
    std::uint32_t given = 0;
    while (!held.rows.empty() && (max_rows == 0 || given < max_rows)) {
        to_client_.append(held.rows.front());
        held.rows.pop_front();
        ++given;
    }
    if (max_rows != 0 && given == max_rows) {
        protocol::Message(to_client_, 's');
    } else {
        // The tag counts the rows of this piece.
        const std::string tag = held.tag.substr(0, held.tag.rfind(' ') + 1);
        protocol::Message(to_client_, 'C').string(tag + std::to_string(given));
    }
}

void SessionMachine::execute_captured(Portal& portal, std::string_view name,
                                      std::uint32_t max_rows) {
    wrote_ = true;
    auto capture = std::make_shared<Capture>();
    capture->plan = portal.prepared->decision.capture;
    capture->catalog_version = decided_catalog_version_;
    if (max_rows != 0 && capture->plan->client_returning) {
        portal.held = capture->held = std::make_shared<HeldRows>();
        capture->max_rows = max_rows;
    }
    std::string message;
    protocol::encode_execute(message, name, 0);
    const bool measure = portal.prepared->decision.measure;
    if (capture->plan->before.empty() && !measure && !mirror_is_coming()) {
        send_primary(message, Expect::execute, row_stripper(capture));
        return;
    }
    wait_mirror_login();
    if (measure) {
        take_baseline("trigger_or_cascade");
        txn_.opaque = txn_.opaque || capture->plan->table->user_triggers;
    }
    run_before_queries(capture, portal.prepared, portal.bind);
    then([this, capture, message] {
        if (!replies_.skipping()) {
            send_primary(message, Expect::execute, row_stripper(capture));
        }
        return true;
    });
}

// The answer of a captured statement: the client's columns go on, the others become row images.
ReplyHandler SessionMachine::row_stripper(std::shared_ptr<Capture> capture) {
    return on_reply([this, capture = std::move(capture)](char type, std::string_view body,
                                                         std::string_view reply) {
        if (type == 'D') {
            if (!protocol::split_data_row(body, capture->plan->width(), capture->split)) {
                violation("a DataRow without the captured columns");
                return;
            }
            apply_row(*capture, capture->split);
            if (capture->held) {
                keep_row(*capture->held, capture->split);
            } else if (capture->plan->client_returning) {
                protocol::Message(to_client_, 'D')
                    .int16(capture->split.kept_count)
                    .bytes(capture->split.kept);
            }
            return;
        }
        if (type == 'C') {
            capture_done(*capture);
        }
        if (type == 'C' && capture->held) {
            capture->held->tag = body.substr(0, body.find('\0'));
            emit_held(*capture->held, capture->max_rows);
        } else {
            to_client_.append(reply);
        }
    });
}

// An implicit transaction that has written something.
bool SessionMachine::commits_at_sync() const {
    return !in_block_ && !replies_.skipping() && !replies_.copying_in() &&
           (wrote_ || txn_.has_work() || txn_.measured || txn_.reload_catalog ||
            mirror_.in_transaction());
}

// The client's next message is here already, and is Sync.
bool SessionMachine::sync_follows() const {
    return client_in_.size() >= client_at_ + protocol::header_size && client_in_[client_at_] == 'S';
}

void SessionMachine::on_sync(std::string_view whole) {
    if (commit_refused_) {
        send_primary(whole, Expect::sync, unseen());
        roll_back_refused();
        return;
    }
    if (!commits_at_sync()) {
        send_primary(whole, Expect::sync);
        return;
    }
    commit_barrier([this] {
        std::string message;
        protocol::encode_sync(message);
        send_primary(message, Expect::sync, commit_on_ready());
    });
}

}  // namespace banyan::router
