// Shadow reads: the client's SELECT is run on the mirror too, digested on both sides as it streams,
// compared, and thrown away. It never delays an answer: at most a few are under way per session, none
// while a mirror transaction is open, and one in the way of a write is cancelled.

#include "router/session/session_machine.hpp"

namespace banyan::router {

struct SessionMachine::ShadowRead {
    PendingDiscrepancy pending;
    Digest primary;
    Digest mirror;
    bool primary_done = false;
    bool primary_failed = false;
    bool mirror_done = false;
    bool mirror_gone = false;
};

namespace {

constexpr std::size_t max_shadows_per_session = 8;
constexpr std::uint32_t first_user_oid = 16384;

}  // namespace

void SessionMachine::skip_shadow(const std::string& reason) {
    port_.counters().add(Counter::shadow_skipped);
    port_.counters().add_reason("shadow_skipped", reason);
}

// A read that does not qualify is counted with its reason: a gate must not pass on what was never
// compared.
void SessionMachine::note_unshadowed(const Decision& decision) {
    if (shadow_ && shadows(phase_) && !decision.shadow_skip.empty() &&
        decision.shadow_skip != "not_select") {
        skip_shadow(decision.shadow_skip);
    }
}

std::shared_ptr<SessionMachine::ShadowRead> SessionMachine::start_shadow(
    const ParsedQuery& query, const Statement& statement) {
    if (!shadows(phase_) || port_.random() >= shadow_share_) {
        return nullptr;
    }
    if (mirror_.in_transaction() || wrote_ || txn_.has_work()) {
        skip_shadow("in_write_transaction");
        return nullptr;
    }
    // A login under way is waited for, unless the session has settings that must come first.
    const bool coming = mirror_.state() != MirrorLink::State::down && settings_.empty();
    if (!(mirror_.ready() || coming) || !port_.breaker().allows()) {
        skip_shadow("mirror_unavailable");
        return nullptr;
    }
    if (mirror_.outstanding_shadows() >= max_shadows_per_session) {
        skip_shadow("busy");
        return nullptr;
    }
    push_mirror_settings();
    auto shadow = std::make_shared<ShadowRead>();
    auto& pending = shadow->pending;
    pending.sql = query.sql.substr(statement.begin, statement.end - statement.begin);
    pending.user = role_;
    pending.settings.assign(settings_.begin(), settings_.end());
    pending.ordered = statement.order_by;
    pending.phase = phase_;
    const auto catalog = port_.catalog();
    for (const auto& table : statement.tables) {
        pending.tables.push_back(table.schema.empty() ? table.name
                                                      : table.schema + "." + table.name);
        const auto found = catalog ? catalog->find(table, search_path_) : Catalog::Found{};
        pending.table_ids.push_back(found.table ? found.table->id : 0);
    }
    port_.counters().add(Counter::shadow_sent);
    return shadow;
}

void SessionMachine::shadow_simple(const std::shared_ptr<ShadowRead>& shadow) {
    mirror_.shadow_query(shadow->pending.sql, shadow_reader(shadow), mirror_out());
}

void SessionMachine::shadow_extended(const std::shared_ptr<ShadowRead>& shadow, Prepared& prepared,
                                     const std::string& bind_body) {
    const auto bind = protocol::decode_bind(bind_body);
    if (!bind) {
        return;
    }
    const auto unnamed = statements_.find("");
    const bool named = unnamed == statements_.end() || unnamed->second.get() != &prepared;
    if (named && prepared.shadow_name.empty()) {
        prepared.shadow_name = "banyan_read_" + std::to_string(++shadow_names_);
    }
    auto& pending = shadow->pending;
    for (const auto type : prepared.types) {
        // User types have other OIDs on the other database: inferred there.
        pending.parameter_types.push_back(type < first_user_oid ? type : 0);
    }
    for (std::size_t i = 0; i < bind->parameters.size(); ++i) {
        Param param;
        if (bind->parameters[i]) {
            param.value.emplace(*bind->parameters[i]);
        }
        param.binary = bind->parameter_format(i) == 1;
        pending.parameters.push_back(std::move(param));
    }
    mirror_.shadow_execute(prepared.shadow_name, prepared.sql, pending.parameter_types, *bind,
                           shadow_reader(shadow), mirror_out());
}

bool SessionMachine::mirror_can_wait() const {
    return mirror_.ready() && mirror_.outstanding_shadows() != 0 && !mirror_.in_transaction() &&
           !mirror_.owes_commit();
}

// On the primary: everything goes on to the client; rows are digested on their way.
ReplyHandler SessionMachine::shadow_tap(const std::shared_ptr<ShadowRead>& shadow) {
    return on_reply([this, shadow](char type, std::string_view body, std::string_view reply) {
        if (type == 'D') {
            shadow->primary.add_row(body);
        } else if (type == 'E' || type == 0) {
            shadow->primary_failed = true;
            shadow->primary_done = true;
            compare_shadow(shadow);
        } else if (type == 'C') {
            shadow->primary_done = true;
            compare_shadow(shadow);
        }
        if (type != 0) {
            to_client_.append(reply);
        }
    });
}

MirrorReader SessionMachine::shadow_reader(const std::shared_ptr<ShadowRead>& shadow) {
    return [this, shadow](char type, std::string_view body) {
        if (type == 'D') {
            shadow->mirror.add_row(body);
        } else if (type == 'E') {
            const auto fields = protocol::decode_error(body);
            shadow->pending.mirror_error = std::string(protocol::error_field(fields, 'C')) + " " +
                                           std::string(protocol::error_field(fields, 'M'));
        } else if (type == 'Z' || type == 0) {
            shadow->mirror_done = true;
            shadow->mirror_gone = type == 0;
            compare_shadow(shadow);
        }
    };
}

void SessionMachine::compare_shadow(const std::shared_ptr<ShadowRead>& shadow) {
    if (!shadow->primary_done || !shadow->mirror_done) {
        return;
    }
    auto& pending = shadow->pending;
    const bool cancelled = pending.mirror_error.starts_with("57014");
    if (shadow->primary_failed || shadow->mirror_gone || cancelled) {
        skip_shadow(shadow->primary_failed ? "primary_error"
                    : cancelled            ? "yielded_to_write"
                                           : "mirror_unavailable");
        return;
    }
    pending.primary_rows = shadow->primary.rows();
    pending.mirror_rows = shadow->mirror.rows();
    if (!pending.mirror_error.empty()) {
        pending.kind = "error";
        port_.counters().add(Counter::shadow_errors);
    } else {
        switch (Digest::compare(shadow->primary, shadow->mirror, pending.ordered)) {
            case Digest::Verdict::equal:
                port_.counters().add(Counter::shadow_matched);
                if (port_.random() < config_.shadow.rerun_share) {
                    port_.offer_rerun(std::move(pending));
                }
                return;
            case Digest::Verdict::order_differs:
                pending.kind = "order";
                break;
            case Digest::Verdict::rows_differ:
                pending.kind = "rows";
                break;
            case Digest::Verdict::count_differs:
                pending.kind = "row_count";
                break;
        }
    }
    port_.counters().add(Counter::shadow_mismatched);
    port_.report_discrepancy(std::move(pending));
}

}  // namespace banyan::router
