// JSON from the API as text for people: aligned tables, a phase line, gates, times. Nothing from
// the server reaches the terminal with a control character in it.
#pragma once

#include <boost/json.hpp>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace banyan::ctl {

/// Escape sequences, or nothing when colour is off.
struct Style {
    bool color = false;
    std::string good(std::string_view text) const { return paint("32", text); }
    std::string bad(std::string_view text) const { return paint("31", text); }
    std::string doubtful(std::string_view text) const { return paint("33", text); }
    std::string strong(std::string_view text) const { return paint("1", text); }
    std::string weak(std::string_view text) const { return paint("2", text); }

   private:
    std::string paint(std::string_view code, std::string_view text) const;
};

/// Control characters become '?'.
std::string clean(std::string_view text);

/// The member at "a.b.c", or null.
const boost::json::value* find(const boost::json::value& value, std::string_view path);

/// find() as text: "-" if null or absent, "yes"/"no", a time for "..._unix_ms", lists with commas.
std::string text_at(const boost::json::value& value, std::string_view path);

/// find() as a number; 0 if it is none.
double number_at(const boost::json::value& value, std::string_view path);

/// "[#####.....]  50 %"; empty brackets while `total` is not known.
std::string bar(double done, double total);

/// "2026-11-20 20:31:05Z", or with `millis` "20:31:05.123".
std::string time_text(std::int64_t unix_ms, bool millis = false);

struct Column {
    std::string_view header;
    std::string_view path;
    std::size_t widest = 60;  ///< longer cells are cut with "..."
};

/// One line per element; a word instead of an empty table.
void print_table(std::ostream& out, const boost::json::array& rows,
                 const std::vector<Column>& columns, const Style& style);

/// "key  value" lines of every scalar member; nested objects as "outer.inner".
void print_object(std::ostream& out, const boost::json::object& object, const Style& style);

void print_status(std::ostream& out, const boost::json::value& status, const Style& style);
/// The sessions in a transition's way, or ended by it.
void print_blocked(std::ostream& out, const boost::json::value& transition);
/// One of preflight's findings: severity, subject, what, why, fix.
void print_finding(std::ostream& out, const boost::json::value& finding, const Style& style);
void print_gates(std::ostream& out, const boost::json::array& gates, const Style& style);
/// "error: title (type)" and what helps: detail, gates, current phase.
void print_problem(std::ostream& out, int status, const boost::json::value& body,
                   const Style& style);

}  // namespace banyan::ctl
