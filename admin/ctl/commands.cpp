#include "admin/ctl/commands.hpp"

#include <algorithm>
#include <iostream>

namespace banyan::ctl {
namespace {

const std::string api = "/api/v1/";

const std::vector<Column> transition_columns = {{"ID", "id"},
                                                {"FROM", "from"},
                                                {"TO", "to"},
                                                {"STATE", "state"},
                                                {"CREATED", "created_unix_ms"},
                                                {"ACTOR", "actor"},
                                                {"REASON", "reason", 40},
                                                {"ERROR", "error", 40}};
const std::vector<Column> table_columns = {{"TABLE", "name"},
                                           {"MIRRORING", "mirroring"},
                                           {"KEY", "key", 30},
                                           {"DIRTY", "dirty"},
                                           {"BACKFILL", "backfill.state"},
                                           {"ROWS", "backfill.rows_copied"},
                                           {"VERIFIED", "verification.state"},
                                           {"REASON", "mirroring_reason", 40},
                                           {"SINCE", "suspect.since_unix_ms"}};
const std::vector<Column> backfill_columns = {{"TABLE", "name"},
                                              {"STATE", "state"},
                                              {"ROWS", "rows_copied"},
                                              {"OF ABOUT", "rows_estimated"},
                                              {"ROWS/S", "rows_per_second"},
                                              {"WAITS FOR", "waiting_for", 40},
                                              {"ERROR", "error", 40}};
const std::vector<Column> capture_columns = {
    {"TABLE", "name"}, {"INSTALLED", "installed"}, {"REASON", "reason", 60}};
const std::vector<Column> verification_columns = {
    {"TABLE", "name"},      {"STATE", "state"},    {"ROWS", "rows_compared"},
    {"MISSING", "missing"}, {"EXTRA", "extra"},    {"DIFFERENT", "different"},
    {"RACED", "raced"},     {"ERROR", "error", 40}};
const std::vector<Column> discrepancy_columns = {{"FINGERPRINT", "fingerprint"},
                                                 {"KIND", "kind"},
                                                 {"COUNT", "count"},
                                                 {"ACK", "acknowledged"},
                                                 {"LAST SEEN", "last_seen_unix_ms"},
                                                 {"TABLES", "tables", 30},
                                                 {"SQL", "sql", 70}};
const std::vector<Column> statement_columns = {{"FINGERPRINT", "fingerprint"},
                                               {"SLOWER", "slower"},
                                               {"RUNS", "runs"},
                                               {"SOURCE US", "source_us"},
                                               {"TARGET US", "target_us"},
                                               {"SQL", "sql", 70}};
const std::vector<Column> session_columns = {{"ID", "id"},
                                             {"USER", "user"},
                                             {"DATABASE", "database"},
                                             {"APPLICATION", "application", 24},
                                             {"CLIENT", "client"},
                                             {"STATE", "state"},
                                             {"PHASE", "phase"},
                                             {"MIRROR", "mirror_ready"},
                                             {"TRANSACTION MS", "transaction_age_ms"},
                                             {"OWNS WHAT CANNOT MOVE", "blocking", 60}};
const std::vector<Column> audit_columns = {{"ID", "id"},
                                           {"WHEN", "at_unix_ms"},
                                           {"ACTOR", "actor"},
                                           {"ADDRESS", "address"},
                                           {"ACTION", "action"},
                                           {"SUBJECT", "subject", 30},
                                           {"RESULT", "result", 30},
                                           {"REASON", "reason", 40}};

}  // namespace

int Commands::explain(const Reply& reply) {
    if (console_.json) {
        print_json(reply.body);
    }
    print_problem(console_.err, reply.status, reply.body, console_.error_style);
    if (reply.status == 401 || reply.status == 403) {
        return exit_unauthorized;
    }
    const bool refused = reply.status >= 400 && reply.status < 500 && reply.status != 421;
    return refused ? exit_refused : exit_unexpected;
}

std::optional<Reply> Commands::call(const std::string& method, const std::string& target, int& code,
                                    const std::optional<boost::json::value>& body) {
    auto reply = client_.send(method, target, body);
    if (!reply) {
        console_.err << console_.error_style.bad("error: ") << reply.error().message << "\n";
        code = exit_unreachable;
        return std::nullopt;
    }
    if (!reply->ok()) {
        code = explain(*reply);
        return std::nullopt;
    }
    if (!reply->body.is_object()) {
        console_.err << console_.error_style.bad("error: ")
                     << "the answer is not Banyan's; is this its admin API?\n";
        code = exit_unexpected;
        return std::nullopt;
    }
    code = exit_ok;
    return std::move(*reply);
}

bool Commands::print_json(const boost::json::value& value) {
    if (console_.json) {
        console_.out << boost::json::serialize(value) << "\n";
    }
    return console_.json;
}

int Commands::show(const std::string& target) {
    int code = exit_ok;
    if (const auto reply = call("GET", api + target, code); reply && !print_json(reply->body)) {
        print_object(console_.out, reply->body.get_object(), console_.style);
    }
    return code;
}

int Commands::show_list(const std::string& target, const std::string& list,
                        const std::vector<Column>& columns) {
    int code = exit_ok;
    if (const auto reply = call("GET", api + target, code); reply && !print_json(reply->body)) {
        const auto* rows = find(reply->body, list);
        print_table(console_.out,
                    rows != nullptr && rows->is_array() ? rows->get_array() : boost::json::array(),
                    columns, console_.style);
    }
    return code;
}

int Commands::status() {
    int code = exit_ok;
    if (const auto reply = call("GET", api + "status", code); reply && !print_json(reply->body)) {
        print_status(console_.out, reply->body, console_.style);
    }
    return code;
}

int Commands::gates(const std::string& to) {
    int code = exit_ok;
    const auto reply =
        call("GET", api + "gates" + (to.empty() ? "" : "?to=" + percent_encode(to)), code);
    if (!reply) {
        return code;
    }
    const auto* gates = find(reply->body, "gates");
    const auto list =
        gates != nullptr && gates->is_array() ? gates->get_array() : boost::json::array();
    if (!print_json(reply->body)) {
        console_.out << "gates from " << text_at(reply->body, "from") << " to "
                     << text_at(reply->body, "to") << ":\n";
        print_gates(console_.out, list, console_.style);
    }
    const bool pass = std::all_of(list.begin(), list.end(), [](const auto& gate) {
        return text_at(gate, "verdict") == "pass";
    });
    return pass ? exit_ok : exit_refused;
}

int Commands::transitions() {
    return show_list("transitions", "transitions", transition_columns);
}

int Commands::cancel(const std::string& id) {
    int code = exit_ok;
    std::string which = id;
    if (which.empty()) {
        const auto status = call("GET", api + "status", code);
        if (!status) {
            return code;
        }
        const auto* running = find(status->body, "transition.id");
        if (running == nullptr || running->is_null()) {
            console_.err << console_.error_style.bad("error: ") << "no transition is running\n";
            return exit_refused;
        }
        which = text_at(status->body, "transition.id");
    }
    const auto reply = call("DELETE", api + "transitions/" + percent_encode(which), code);
    if (reply && !print_json(reply->body)) {
        console_.out << "cancelling " << clean(which) << "; see: banyanctl transitions\n";
    }
    return code;
}

int Commands::backfill(const std::string& action, bool wait) {
    int code = exit_ok;
    const auto reply = action.empty() ? call("GET", api + "backfill", code)
                                      : call("POST", api + "backfill/" + action, code);
    if (reply && wait) {
        return wait_for_backfill(reply->body);
    }
    if (reply && !print_json(reply->body)) {
        print_object(console_.out, reply->body.get_object(), console_.style);
        if (const auto* rows = find(reply->body, "tables"); rows != nullptr && rows->is_array()) {
            console_.out << "\n";
            print_table(console_.out, rows->get_array(), backfill_columns, console_.style);
        }
    }
    return code;
}

int Commands::capture(const std::string& action) {
    int code = exit_ok;
    const auto reply = call(action == "install"  ? "PUT"
                            : action == "remove" ? "DELETE"
                                                 : "GET",
                            api + "capture", code);
    if (!reply || print_json(reply->body)) {
        return code;
    }
    const auto is_true = [](const boost::json::value& value, std::string_view path) {
        const auto* found = find(value, path);
        return found != nullptr && found->is_bool() && found->get_bool();
    };
    console_.out << "deep capture is " << (is_true(reply->body, "enabled") ? "on" : "off") << "\n";
    for (const char* side : {"source", "target"}) {
        const std::string at(side);
        const auto* rows = find(reply->body, at + ".tables");
        if (rows == nullptr || !rows->is_array()) {
            continue;
        }
        const auto& list = rows->get_array();
        const auto installed = std::count_if(
            list.begin(), list.end(), [&](const auto& row) { return is_true(row, "installed"); });
        console_.out << "\n" << side << ": " << installed << " of " << list.size() << " tables";
        if (const std::string error = text_at(reply->body, at + ".error"); error != "-") {
            console_.out << ", " << error;
        }
        console_.out << "\n";
        print_table(console_.out, list, capture_columns, console_.style);
    }
    return code;
}

int Commands::verify(const VerifyOptions& options) {
    boost::json::object body = {
        {"tables", boost::json::array(options.tables.begin(), options.tables.end())},
        {"repair", options.repair}};
    int code = exit_ok;
    const auto reply = call("POST", api + "verifications", code, body);
    if (!reply) {
        return code;
    }
    if (options.wait) {
        return wait_for_verification(reply->location, reply->body);
    }
    if (!print_json(reply->body)) {
        console_.out << "verification " << text_at(reply->body, "id") << " is "
                     << text_at(reply->body, "state") << "\n";
    }
    return exit_ok;
}

int Commands::wait_for_verification(const std::string& target, boost::json::value verification) {
    for (;;) {
        const std::string state = text_at(verification, "state");
        if (state != "queued" && state != "running") {
            end_progress();
            if (!print_json(verification)) {
                console_.out << "verification " << text_at(verification, "id") << ": " << state
                             << "\n";
                if (const auto* rows = find(verification, "tables");
                    rows != nullptr && rows->is_array()) {
                    print_table(console_.out, rows->get_array(), verification_columns,
                                console_.style);
                }
            }
            if (state == "equal") {
                return exit_ok;
            }
            return state == "different" || state == "inconclusive" ? exit_refused : exit_not_done;
        }
        if (const auto* rows = find(verification, "tables"); rows != nullptr && rows->is_array()) {
            const auto running = [](const auto& row) { return text_at(row, "state") == "running"; };
            const auto& list = rows->get_array();
            const auto it = std::find_if(list.begin(), list.end(), running);
            progress(state + (it == list.end()
                                  ? ""
                                  : " " + bar(number_at(*it, "rows_compared"),
                                              number_at(*it, "rows_estimated")) +
                                        " " + text_at(*it, "name") + ", " +
                                        text_at(*it, "rows_compared") + " of about " +
                                        text_at(*it, "rows_estimated") + " rows"));
        }
        int code = exit_ok;
        auto next = poll(target, code);
        if (!next) {
            return code;
        }
        verification = std::move(*next);
    }
}

int Commands::tables(const std::string& name) {
    return name.empty() ? show_list("tables", "tables", table_columns)
                        : show("tables/" + percent_encode(name));
}

int Commands::discrepancies(const std::string& fingerprint) {
    if (!fingerprint.empty()) {
        return show("discrepancies/" + percent_encode(fingerprint));
    }
    int code = exit_ok;
    const auto reply = call("GET", api + "discrepancies", code);
    if (reply && !print_json(reply->body)) {
        const auto at = [&](std::string_view path) { return text_at(reply->body, path); };
        console_.out << at("unacknowledged") << " unacknowledged, " << at("confirmed")
                     << " confirmed, " << at("raced") << " raced, " << at("pending") << " pending, "
                     << at("dropped") << " dropped\n";
        if (const auto* rows = find(reply->body, "groups"); rows != nullptr && rows->is_array()) {
            print_table(console_.out, rows->get_array(), discrepancy_columns, console_.style);
        }
    }
    return code;
}

int Commands::acknowledge(const std::string& fingerprint, const std::string& note, double hours) {
    int code = exit_ok;
    boost::json::object body{{"note", note}};
    if (hours > 0) {
        const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
                             std::chrono::system_clock::now().time_since_epoch())
                             .count();
        body["until_unix_ms"] = now + static_cast<std::int64_t>(hours * 3'600'000);
    }
    const auto reply =
        call("POST", api + "discrepancies/" + percent_encode(fingerprint) + "/acknowledge", code,
             std::move(body));
    if (reply && !print_json(reply->body)) {
        console_.out << "acknowledged " << clean(fingerprint) << "\n";
    }
    return code;
}

int Commands::shadow_times() {
    return show_list("shadow/times", "statements", statement_columns);
}

int Commands::shadow(std::optional<double> share) {
    if (!share) {
        return show("shadow");
    }
    int code = exit_ok;
    const auto reply = call("PATCH", api + "shadow", code, boost::json::object{{"share", *share}});
    if (reply && !print_json(reply->body)) {
        print_object(console_.out, reply->body.get_object(), console_.style);
    }
    return code;
}

int Commands::journal() {
    return show("journal");
}

int Commands::sessions() {
    return show_list("sessions", "sessions", session_columns);
}

int Commands::audit(std::int64_t limit, std::optional<std::int64_t> before) {
    return show_list("audit?limit=" + std::to_string(limit) +
                         (before ? "&before=" + std::to_string(*before) : ""),
                     "audit", audit_columns);
}

int Commands::check_audit() {
    int code = exit_ok;
    const auto reply = call("GET", api + "audit/check", code);
    if (!reply) {
        return code;
    }
    const auto* intact = find(reply->body, "intact");
    const bool good = intact != nullptr && intact->is_bool() && intact->get_bool();
    if (!print_json(reply->body)) {
        const std::string count = text_at(reply->body, "entries") + " entries";
        console_.out << (good ? console_.style.good(count + ", the chain is intact")
                              : console_.style.bad(count + ", entry " +
                                                   text_at(reply->body, "first_broken") +
                                                   " does not fit the chain"))
                     << "\n";
    }
    return good ? exit_ok : exit_refused;
}

int Commands::configuration() {
    int code = exit_ok;
    const auto reply = call("GET", api + "config", code);
    if (reply && !print_json(reply->body)) {
        console_.out << "# " << text_at(reply->body, "file") << "\n";
        if (const auto* keys = find(reply->body, "keys"); keys != nullptr && keys->is_object()) {
            for (const auto& key : keys->get_object()) {
                console_.out << clean(key.key()) << " = "
                             << (key.value().is_string() ? clean(key.value().get_string()) : "")
                             << "\n";
            }
        }
    }
    return code;
}

int Commands::preflight() {
    int code = exit_ok;
    const auto reply = call("GET", api + "preflight", code);
    if (!reply) {
        return code;
    }
    const bool blocked = number_at(reply->body, "blocks") > 0;
    if (print_json(reply->body)) {
        return blocked ? exit_refused : exit_ok;
    }
    std::size_t well = 0;
    if (const auto* list = find(reply->body, "findings"); list != nullptr && list->is_array()) {
        for (const auto& it : list->get_array()) {
            if (text_at(it, "severity") == "ok") {
                ++well;
            } else {
                print_finding(console_.out, it, console_.style);
            }
        }
    }
    console_.out << text_at(reply->body, "blocks") << " in the way, "
                 << text_at(reply->body, "warnings") << " warnings, " << well << " checks are well\n";
    return blocked ? exit_refused : exit_ok;
}

int Commands::reload() {
    int code = exit_ok;
    const auto reply = call("POST", api + "config/reload", code);
    if (!reply || print_json(reply->body)) {
        return code;
    }
    const auto each = [&](std::string_view list, const auto& print) {
        const auto* keys = find(reply->body, list);
        if (keys != nullptr && keys->is_array()) {
            for (const auto& key : keys->get_array()) {
                print(key);
            }
            return keys->get_array().size();
        }
        return std::size_t{0};
    };
    auto count = each("applied", [&](const auto& key) {
        console_.out << "applied  " << (key.is_string() ? clean(key.get_string()) : "") << "\n";
    });
    count += each("restart", [&](const auto& key) {
        const auto keeps = text_at(key, "keeps");
        console_.out << "restart  " << text_at(key, "key") << " needs a restart"
                     << (keeps.empty() ? "" : "; it keeps " + keeps) << "\n";
    });
    if (count == 0) {
        console_.out << "nothing has changed; certificates and keys were read again\n";
    }
    return code;
}

}  // namespace banyan::ctl
