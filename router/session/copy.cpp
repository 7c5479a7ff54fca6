// COPY FROM STDIN. Where its rows follow from its data alone (router/sql/table_writes.hpp), the data
// is teed: the mirror runs the same COPY in its transaction. The table as a whole is then what the
// transaction wrote, and turns suspect should the mirror's half not commit.
//
// The mirror's COPY begins when the primary has asked for the data, and ends with it: CopyDone goes
// to both at once; whatever else ends it on the primary fails it on the mirror. An error of the
// mirror's, or a mirror that does not read, ends the tee alone.

#include <algorithm>
#include <array>

#include "protocol/message_limits.hpp"
#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

// What decides how a value's text is read, besides its type. The mirror is told what holds on the
// primary, since a server's configuration may say other than a session's settings.
constexpr std::array<std::string_view, 7> input_settings = {
    "client_encoding", "DateStyle", "IntervalStyle", "TimeZone",
    "timezone_abbreviations", "array_nulls", "xmloption"};
constexpr std::string_view money_setting = "lc_monetary";  // a locale that a server may not have

std::vector<std::string_view> settings_of(const Table& table) {
    std::vector<std::string_view> names(input_settings.begin(), input_settings.end());
    if (std::any_of(table.columns.begin(), table.columns.end(), [](const Column& column) {
            return column.type_name.starts_with("money");
        })) {
        names.push_back(money_setting);
    }
    return names;
}

/// The CopyData messages at the front of `bytes` that are all there.
std::size_t whole_copy_data(std::string_view bytes, std::size_t longest) {
    std::size_t at = 0;
    while (bytes.size() - at >= protocol::header_size && bytes[at] == 'd') {
        const auto header = protocol::read_header(bytes.data() + at,
                                                  protocol::max_client_body('d', longest));
        if (!header || bytes.size() - at < protocol::header_size + header->body_size) {
            break;
        }
        at += protocol::header_size + header->body_size;
    }
    return at;
}

}  // namespace

// Steps, before the COPY is sent: its marks, and what the mirror must know to read its data alike.
std::shared_ptr<CopyIn> SessionMachine::prepare_copy(const Decision& decision) {
    auto copy = std::make_shared<CopyIn>();
    copy->plan = decision.copy;
    prepare_uncaptured(decision);
    if (!copy->plan) {
        return copy;
    }
    wait_mirror_login();
    const auto names = settings_of(*copy->plan->table);
    std::string sql;
    for (const auto name : names) {
        sql += (sql.empty() ? "SELECT pg_catalog.current_setting('" : ", pg_catalog.current_setting('") +
               std::string(name) + "')";
    }
    internal_query(sql, true, [copy, names](bool ok, const std::vector<Row>& rows) {
        for (std::size_t i = 0; ok && rows.size() == 1 && i < rows[0].size(); ++i) {
            copy->settings += (i == 0 ? "SELECT " : ", ") + std::string("pg_catalog.set_config(") +
                              quote_literal(names[i]) + ", " +
                              quote_literal(rows[0][i].value_or("")) + ", true)";
        }
    });
    return copy;
}

// Watches the answer of the Execute that runs the COPY, and hands it on.
ReplyHandler SessionMachine::copy_watch(std::shared_ptr<CopyIn> copy, ReplyHandler next) {
    return on_reply([this, copy = std::move(copy), next = std::move(next)](
                        char type, std::string_view body, std::string_view reply) {
        switch (type) {
            case 'G':
                copy_ = copy;
                if (copy->plan) {
                    begin_tee(*copy);
                }
                break;
            case 'C':
                mirror_.copy_decided(true, mirror_out());
                if (copy->plan) {
                    const auto rows = protocol::rows_of_tag(body.substr(0, body.find('\0')));
                    txn_.captured_rows[copy->plan->table->id] += static_cast<std::int64_t>(rows);
                    port_.counters().add(Counter::rows_captured, rows);
                }
                break;
            case 'E':
            case 0:
                mirror_.copy_decided(false, mirror_out());
                break;
            default:
                break;
        }
        if (type == 'C' || type == 'E' || type == 0) {
            copy->over = true;
            copy_.reset();
        }
        if (next) {
            next->reply(type, body, reply);
        } else if (type != 0) {
            to_client_.append(reply);
        }
    });
}

void SessionMachine::begin_tee(CopyIn& copy) {
    if (copy.settings.empty()) {
        txn_.mirror_lost = true;  // how its values read on the primary is not known
    }
    if (!mirror_usable()) {
        return;
    }
    begin_mirror();
    mirror_.statement(copy.settings, mirror_out());
    mirror_.copy_in(copy.plan->sql, mirror_out());
}

// An Execute of the client's own.
void SessionMachine::execute_copy(const Prepared& prepared, std::string_view whole) {
    const Decision decision = prepared.decision;
    const auto copy = prepare_copy(decision);
    copy->scripted = decision.deep;  // its end is waited for
    then([this, copy, decision, parsed = prepared.parsed, message = std::string(whole)] {
        if (!replies_.skipping()) {
            ReplyHandler next = decision.route == Route::guarded
                                    ? statement_watch(decision, parsed, 0)
                                    : nullptr;
            send_primary(message, Expect::execute, copy_watch(copy, std::move(next)));
            wait_primary();  // for its CopyInResponse: what comes before it is not teed
        } else {
            copy->over = true;
        }
        return true;
    });
    if (decision.deep) {
        then([copy] { return copy->over; });
        take_captured();
    }
}

// --- data ---

// Passes on the CopyData messages at the front of what the client has sent; false if there are none.
bool SessionMachine::pass_copy_data() {
    const std::string_view waiting = std::string_view(client_in_).substr(client_at_);
    const auto size = whole_copy_data(waiting, config_.limits.max_message_bytes);
    if (size == 0) {
        return false;
    }
    primary_out().append(waiting.substr(0, size));
    if (mirror_.copying_in()) {
        mirror_out().append(waiting.substr(0, size));
    }
    client_at_ += size;
    return true;
}

// A piece of a CopyData message that is not all there yet. For the mirror it is a message of its own,
// so that its stream can be given up at any point.
void SessionMachine::tee_piece(std::string_view data) {
    if (mirror_.copying_in() && !data.empty()) {
        protocol::Message(mirror_out(), 'd').bytes(data);
    }
}

// CopyDone or CopyFail.
void SessionMachine::on_copy_end(char type, std::string_view whole) {
    const bool ends = copy_ && replies_.copying_in();
    if (ends && type == 'c') {
        mirror_.copy_done(mirror_out());
    }
    send_primary(whole, Expect::copy_end);
    if (ends && copy_->scripted) {
        protocol::encode_flush(primary_out());
    }
}

// While the mirror is too far behind, the client is not read: it is given the time of a commit to
// catch up, and is given up after that.
bool SessionMachine::copy_stalled() {
    const auto most =
        std::min<std::uint64_t>(max_copy_backlog, config_.limits.max_session_bytes / 4);
    const auto size = mirror_out().size();
    if (!copy_stalled_ && mirror_.copying_in() && size > most) {
        copy_stalled_ = true;
        port_.set_deadline(Deadline::mirror, mirror_timeout());
    } else if (copy_stalled_ && (size <= most / 2 || !mirror_.copying_in())) {
        copy_stalled_ = false;
        port_.clear_deadline(Deadline::mirror);
    }
    return copy_stalled_;
}

}  // namespace banyan::router
