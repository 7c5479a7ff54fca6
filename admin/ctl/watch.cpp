// watch, and waiting for a backfill: the same look again and again.
#include <csignal>
#include <iostream>
#include <thread>

#include "admin/ctl/commands.hpp"

namespace banyan::ctl {
namespace {

constexpr std::chrono::seconds line_interval{5};

volatile std::sig_atomic_t interrupted = 0;

void interrupt(int) {
    interrupted = 1;
}

std::string backfill_line(const boost::json::value& it) {
    const auto eta = text_at(it, "eta_seconds");
    return text_at(it, "state") + " " +
           bar(number_at(it, "rows_copied"), number_at(it, "rows_estimated")) + " " +
           text_at(it, "rows_copied") + " of about " + text_at(it, "rows_estimated") + " rows, " +
           text_at(it, "rows_per_second") + " rows/s, ETA " + (eta == "-" ? "unknown" : eta + " s");
}

/// One line for a log.
std::string plain_line(const boost::json::value& status) {
    const auto at = [&](std::string_view path) { return text_at(status, path); };
    return at("phase") + "  sessions " + at("sessions.total") + "  breaker " + at("breaker.state") +
           "  dirty " + at("journal.dirty") + "  suspect " + at("journal.suspect_tables") +
           "  backfill " + at("backfill.state") + " " + at("backfill.rows_copied") + "/" +
           at("backfill.rows_estimated") + "  verified " + at("verification.tables_equal") + "/" +
           at("verification.tables_total") + "  discrepancies " + at("shadow.unacknowledged") +
           "  transition " + at("transition.state");
}

}  // namespace

int Commands::watch(std::chrono::milliseconds interval, std::int64_t count) {
    std::signal(SIGINT, interrupt);
    int code = exit_ok;
    for (std::int64_t look = 0; interrupted == 0 && (count == 0 || look < count); ++look) {
        if (look != 0) {
            std::this_thread::sleep_for(interval);
        }
        const bool screen = console_.terminal && !console_.json;
        if (screen) {
            console_.out << "\033[H\033[2J";
        }
        const auto reply = call("GET", "/api/v1/status", code);
        if (!reply) {
            if (code == exit_unauthorized || look == 0) {
                return code;
            }
            continue;  // it may be restarting
        }
        if (print_json(reply->body)) {
            console_.out << std::flush;
            continue;
        }
        const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
                             std::chrono::system_clock::now().time_since_epoch())
                             .count();
        if (!screen) {
            console_.out << time_text(now) << "  " << plain_line(reply->body) << std::endl;
            continue;
        }
        print_status(console_.out, reply->body, console_.style);
        if (const auto* backfill = find(reply->body, "backfill");
            backfill != nullptr && text_at(*backfill, "state") == "running") {
            console_.out << "\nbackfill      " << backfill_line(*backfill) << "\n";
        }
        if (number_at(reply->body, "verification.tables_total") > 0) {
            console_.out << "\nverified      "
                         << bar(number_at(reply->body, "verification.tables_equal"),
                                number_at(reply->body, "verification.tables_total"))
                         << "\n";
        }
        console_.out << "\n" << console_.style.weak(time_text(now) + ", Ctrl-C ends") << std::endl;
    }
    return code;
}

int Commands::wait_for_backfill(boost::json::value backfill) {
    for (;;) {
        const std::string state = text_at(backfill, "state");
        if (state != "running" && state != "paused" && state != "waiting") {
            end_progress();
            if (!print_json(backfill)) {
                console_.out << "backfill: " << backfill_line(backfill) << "\n";
            }
            return state == "done" || state == "idle" ? exit_ok : exit_not_done;
        }
        progress(backfill_line(backfill));
        int code = exit_ok;
        auto next = poll("/api/v1/backfill", code);
        if (!next) {
            return code;
        }
        backfill = std::move(*next);
    }
}

void Commands::progress_line(const std::string& text) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= next_line_) {
        next_line_ = now + line_interval;
        console_.out << text << std::endl;
    }
}

}  // namespace banyan::ctl
