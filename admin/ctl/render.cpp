#include "admin/ctl/render.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iostream>

namespace banyan::ctl {
namespace {

constexpr std::array<std::string_view, 5> phases = {"INITIAL", "DUAL_WRITE", "DUAL_READ",
                                                    "SWITCHOVER", "COMPLETE"};

/// Terminal columns, near enough: continuation bytes of UTF-8 take none.
std::size_t width(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
    }));
}

std::string cut(std::string text, std::size_t widest) {
    if (width(text) <= widest) {
        return text;
    }
    std::size_t end = 0;
    for (std::size_t seen = 0; end < text.size(); ++end) {
        if ((static_cast<unsigned char>(text[end]) & 0xC0U) != 0x80U && ++seen > widest - 3) {
            break;
        }
    }
    return text.substr(0, end) + "...";
}

std::string pad(const std::string& text, std::size_t to) {
    const std::size_t has = width(text);
    return has < to ? text + std::string(to - has, ' ') : text;
}

std::string scalar_text(const boost::json::value& value, bool is_time) {
    if (value.is_null()) {
        return "-";
    }
    if (value.is_bool()) {
        return value.get_bool() ? "yes" : "no";
    }
    if (value.is_string()) {
        return clean(value.get_string());
    }
    if (is_time && value.is_int64()) {
        return time_text(value.get_int64());
    }
    if (value.is_double()) {
        std::array<char, 32> buffer{};
        const int n = std::snprintf(buffer.data(), buffer.size(), "%.6g", value.get_double());
        return {buffer.data(), static_cast<std::size_t>(n)};
    }
    if (const auto* array = value.if_array()) {
        std::string text;
        for (const auto& element : *array) {
            text += (text.empty() ? "" : ", ") + scalar_text(element, false);
        }
        return text;
    }
    return clean(boost::json::serialize(value));
}

void print_members(std::ostream& out, const boost::json::object& object, const std::string& prefix,
                   std::size_t margin, const Style& style) {
    for (const auto& member : object) {
        const std::string name = prefix + clean(member.key());
        if (const auto* inner = member.value().if_object()) {
            print_members(out, *inner, name + ".", margin, style);
            continue;
        }
        const auto* array = member.value().if_array();
        if (array != nullptr && !array->empty() && array->front().is_object()) {
            out << style.weak(pad(name, margin)) << "  " << array->size() << " (see --json)\n";
            continue;
        }
        out << style.weak(pad(name, margin)) << "  "
            << scalar_text(member.value(), name.ends_with("_unix_ms")) << "\n";
    }
}

std::size_t widest_name(const boost::json::object& object, std::size_t prefix) {
    std::size_t widest = 0;
    for (const auto& member : object) {
        const std::size_t here = prefix + member.key().size();
        const auto* inner = member.value().if_object();
        widest = std::max(widest, inner != nullptr ? widest_name(*inner, here + 1) : here);
    }
    return widest;
}

std::string verdict(const std::string& word, const Style& style) {
    const std::string text = pad(word, 12);
    return word == "pass"   ? style.good(text)
           : word == "fail" ? style.bad(text)
                            : style.doubtful(text);
}

std::string reachable(const boost::json::value& status, const std::string& side,
                      const Style& style) {
    const auto* value = find(status, side + ".reachable");
    if (value == nullptr || !value->is_bool()) {
        return style.doubtful("not looked at yet");
    }
    return value->get_bool() ? style.good("reachable")
                             : style.bad("unreachable: " + text_at(status, side + ".error"));
}

}  // namespace

std::string Style::paint(std::string_view code, std::string_view text) const {
    return color ? "\033[" + std::string(code) + "m" + std::string(text) + "\033[0m"
                 : std::string(text);
}

std::string clean(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        // U+0080..U+009F, in UTF-8 C2 80..C2 9F, are control characters as well.
        const bool c1 =
            c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
        if (c1) {
            ++i;
        }
        out.push_back(c < 0x20 || c == 0x7F || c1 ? '?' : text[i]);
    }
    return out;
}

const boost::json::value* find(const boost::json::value& value, std::string_view path) {
    const boost::json::value* here = &value;
    while (here != nullptr && !path.empty()) {
        const auto dot = std::min(path.find('.'), path.size());
        const auto* object = here->if_object();
        here = object == nullptr ? nullptr : object->if_contains(path.substr(0, dot));
        path.remove_prefix(std::min(dot + 1, path.size()));
    }
    return here;
}

std::string text_at(const boost::json::value& value, std::string_view path) {
    const auto* found = find(value, path);
    return found == nullptr ? "-" : scalar_text(*found, path.ends_with("_unix_ms"));
}

double number_at(const boost::json::value& value, std::string_view path) {
    const auto* found = find(value, path);
    return found != nullptr && found->is_number() ? found->to_number<double>() : 0;
}

std::string bar(double done, double total) {
    constexpr int wide = 30;
    if (!(total > 0)) {
        return "[" + std::string(wide, ' ') + "]";
    }
    const double share = std::clamp(done / total, 0.0, 1.0);
    const auto full = static_cast<std::size_t>(share * wide);
    std::array<char, 16> percent{};
    std::snprintf(percent.data(), percent.size(), "%3d %%", static_cast<int>(share * 100));
    return "[" + std::string(full, '#') + std::string(wide - full, '.') + "] " + percent.data();
}

std::string time_text(std::int64_t unix_ms, bool millis) {
    const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    std::array<char, 48> buffer{};
    const char* format = millis ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%SZ";
    std::string text(buffer.data(), std::strftime(buffer.data(), buffer.size(), format, &parts));
    if (millis) {
        std::snprintf(buffer.data(), buffer.size(), ".%03d", static_cast<int>(unix_ms % 1000));
        text += buffer.data();
    }
    return text;
}

void print_table(std::ostream& out, const boost::json::array& rows,
                 const std::vector<Column>& columns, const Style& style) {
    if (rows.empty()) {
        out << "none\n";
        return;
    }
    std::vector<std::size_t> widths;
    for (const auto& column : columns) {
        widths.push_back(column.header.size());
    }
    std::vector<std::vector<std::string>> cells;
    for (const auto& row : rows) {
        auto& line = cells.emplace_back();
        for (std::size_t i = 0; i < columns.size(); ++i) {
            line.push_back(cut(text_at(row, columns[i].path), columns[i].widest));
            widths[i] = std::max(widths[i], width(line.back()));
        }
    }
    for (std::size_t i = 0; i < columns.size(); ++i) {
        const std::string header(columns[i].header);
        out << style.strong(i + 1 < columns.size() ? pad(header, widths[i]) + "  " : header);
    }
    out << "\n";
    for (const auto& line : cells) {
        for (std::size_t i = 0; i < columns.size(); ++i) {
            out << (i + 1 < columns.size() ? pad(line[i], widths[i]) + "  " : line[i]);
        }
        out << "\n";
    }
}

void print_object(std::ostream& out, const boost::json::object& object, const Style& style) {
    print_members(out, object, "", widest_name(object, 0), style);
}

void print_status(std::ostream& out, const boost::json::value& status, const Style& style) {
    const std::string phase = text_at(status, "phase");
    for (const auto name : phases) {
        out << (name == phases.front() ? "" : " > ")
            << (name == phase ? style.strong("[" + phase + "]") : style.weak(name));
    }
    const auto at = [&](std::string_view path) { return text_at(status, path); };
    out << "\n\nsource        " << reachable(status, "source", style) << "\ntarget        "
        << reachable(status, "target", style) << "\nprimary       " << at("primary") << ", mirror "
        << at("mirror") << ", breaker " << at("breaker.state")
        << (at("breaker.state") == "closed"
                ? ""
                : " (" + at("breaker.cause") + ": " + at("breaker.detail") + ")")
        << "\nsince         "
        << at("phase_since_unix_ms") << "\nsessions      " << at("sessions.total") << ", "
        << at("sessions.adopted") << " in this phase"
        << "\nlease         " << at("lease.state") << ", epoch " << at("lease.epoch") << ", holder "
        << at("lease.holder") << ", renewed on the source " << at("lease.source.renewed_ms_ago")
        << " ms ago, on the target " << at("lease.target.renewed_ms_ago") << " ms ago, of "
        << at("lease.ttl_ms")
        << "\njournal       " << at("journal.in_flight") << " in flight, " << at("journal.dirty")
        << " dirty keys, " << at("journal.suspect_tables") << " suspect tables"
        << "\nrepair        " << at("repair.keys_per_second") << " keys/s, ETA "
        << at("repair.eta_seconds") << " s, throttled by "
        << (at("repair.throttle_reason").empty() ? "nothing" : at("repair.throttle_reason"))
        << "\nbackfill      " << at("backfill.state") << ", " << at("backfill.rows_copied")
        << " of about " << at("backfill.rows_estimated") << " rows, " << at("backfill.tables_done")
        << "/" << at("backfill.tables_total") << " tables, " << at("backfill.rows_per_second")
        << " rows/s, ETA " << at("backfill.eta_seconds") << " s"
        << "\nverification  " << at("verification.tables_equal") << " equal, "
        << at("verification.tables_different") << " different, of "
        << at("verification.tables_total") << " tables"
        << "\nshadow        share " << at("shadow.share") << ", " << at("shadow.matched")
        << " matched, " << at("shadow.confirmed") << " confirmed discrepancies\n";
    if (const auto* running = find(status, "transition");
        running != nullptr && running->is_object()) {
        out << style.strong("transition    " + text_at(*running, "id") + " " +
                            text_at(*running, "from") + " > " + text_at(*running, "to") + ": " +
                            text_at(*running, "state"))
            << ", waits for " << text_at(*running, "waiting_for") << "\n";
        print_blocked(out, *running);
    }
}

void print_blocked(std::ostream& out, const boost::json::value& transition) {
    const auto* sessions = find(transition, "blocked_sessions");
    if (sessions == nullptr || !sessions->is_array()) {
        return;
    }
    for (const auto& it : sessions->get_array()) {
        const auto* ended = find(it, "ended");
        const bool is_ended = ended != nullptr && ended->is_bool() && ended->get_bool();
        out << (is_ended ? "ended: " : "blocked by ") << "session " << text_at(it, "id") << ", user "
            << text_at(it, "user") << ", application " << text_at(it, "application") << ", client "
            << text_at(it, "client") << ": " << text_at(it, "things") << "\n";
    }
}

void print_finding(std::ostream& out, const boost::json::value& finding, const Style& style) {
    const std::string severity = text_at(finding, "severity");
    const std::string word = pad(severity, 6);
    const std::string subject = text_at(finding, "subject");
    out << (severity == "block"  ? style.bad(word)
            : severity == "warn" ? style.doubtful(word)
                                 : style.weak(word))
        << style.strong(text_at(finding, "name")) << (subject.empty() ? "" : " " + subject);
    if (const auto phase = text_at(finding, "phase"); phase != "-") {
        out << style.weak(" (before " + phase + ")");
    }
    out << "\n      " << text_at(finding, "what") << "\n      " << text_at(finding, "why") << "\n";
    if (const auto fix = text_at(finding, "fix"); !fix.empty()) {
        out << "      -> " << fix << "\n";
    }
}

void print_gates(std::ostream& out, const boost::json::array& gates, const Style& style) {
    if (gates.empty()) {
        out << "no gates\n";
    }
    for (const auto& gate : gates) {
        out << verdict(text_at(gate, "verdict"), style) << "  " << text_at(gate, "name") << ": "
            << text_at(gate, "value") << " (wanted " << text_at(gate, "threshold");
        if (const auto* samples = find(gate, "samples");
            samples != nullptr && !samples->is_null()) {
            out << "; " << text_at(gate, "samples") << " of at least "
                << text_at(gate, "minimum_samples") << " samples";
        }
        out << ")\n              " << text_at(gate, "explanation") << "\n";
    }
}

void print_problem(std::ostream& out, int status, const boost::json::value& body,
                   const Style& style) {
    if (!body.is_object()) {
        out << style.bad("error: ") << "the server answered " << status << " and no JSON\n";
        return;
    }
    out << style.bad("error: ") << text_at(body, "title") << " (" << text_at(body, "type") << ")\n";
    if (const auto* detail = find(body, "detail")) {
        out << scalar_text(*detail, false) << "\n";
    }
    if (find(body, "current_phase") != nullptr) {
        out << "current phase: " << text_at(body, "current_phase") << "\n";
    }
    if (const auto* gates = find(body, "gates"); gates != nullptr && gates->is_array()) {
        print_gates(out, gates->get_array(), style);
    }
}

}  // namespace banyan::ctl
