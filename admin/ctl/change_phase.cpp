// advance and rollback: ask, change, and tell what happens until it is over.
#include <algorithm>
#include <cctype>
#include <iostream>
#include <thread>

#include "admin/ctl/commands.hpp"

namespace banyan::ctl {
namespace {

constexpr std::chrono::milliseconds poll_interval{200};
constexpr std::chrono::seconds patience{10};

std::string canonical(std::string_view phase) {
    std::string out(phase);
    std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) {
        return c == '-' ? '_' : static_cast<char>(std::toupper(c));
    });
    return out;
}

bool over(const std::string& state) {
    return state != "checking" && state != "draining" && state != "switching";
}

void print_plan(std::ostream& out, const boost::json::value& plan, const Style& style) {
    out << "would go from " << text_at(plan, "from") << " to " << text_at(plan, "to") << ":\n";
    if (const auto* steps = find(plan, "steps"); steps != nullptr && steps->is_array()) {
        int number = 0;
        for (const auto& step : steps->get_array()) {
            out << "  " << ++number << ". " << text_at(step, "name") << ": "
                << text_at(step, "what") << "\n";
        }
    }
    if (const auto* gates = find(plan, "gates"); gates != nullptr && gates->is_array()) {
        print_gates(out, gates->get_array(), style);
    }
}

}  // namespace

bool Commands::confirm(const std::string& from, const std::string& to) {
    console_.err << "This changes the phase from " << from << " to " << to << ".\n";
    if (to == "COMPLETE") {
        console_.err << console_.error_style.bad("There is no way back from COMPLETE.") << "\n";
    }
    console_.err << "Type " << to << " to go on: " << std::flush;
    std::string typed;
    std::getline(console_.in, typed);
    const auto first = typed.find_first_not_of(" \t\r");
    const auto last = typed.find_last_not_of(" \t\r");
    const bool same = first != std::string::npos && typed.substr(first, last - first + 1) == to;
    if (!same) {
        console_.err << "Not confirmed; nothing was changed. (--yes confirms without asking.)\n";
    }
    return same;
}

int Commands::change_phase(bool forward, const ChangeOptions& options) {
    int code = exit_ok;
    const auto phase = call("GET", "/api/v1/phase", code);
    if (!phase) {
        return code;
    }
    const std::string from = text_at(phase->body, "phase");
    const std::string to = options.to.empty() ? text_at(phase->body, forward ? "next" : "previous")
                                              : canonical(options.to);
    if (to == "-") {
        console_.err << console_.error_style.bad("error: ") << "there is no phase "
                     << (forward ? "after " : "to roll back to from ") << from << "\n";
        return exit_refused;
    }
    if (!options.dry_run && !options.yes && !confirm(from, to)) {
        return exit_unexpected;
    }
    boost::json::object body = {{"from", from}, {"to", to}, {"reason", options.reason}};
    if (options.dry_run) {
        body["dry_run"] = true;
    }
    if (options.override_gates) {
        body["override_gates"] = true;
    }
    if (options.deadline_ms) {
        body["deadline_ms"] = *options.deadline_ms;
    }
    if (options.end_blocking_sessions || options.keep_blocking_sessions) {
        body["on_blocked_sessions"] = options.end_blocking_sessions ? "end" : "abort";
    }
    const auto reply = call("POST", "/api/v1/transitions", code, body);
    if (!reply) {
        return code;
    }
    if (options.dry_run) {
        if (!print_json(reply->body)) {
            print_plan(console_.out, reply->body, console_.style);
        }
        const auto* pass = find(reply->body, "would_pass");
        return pass != nullptr && pass->is_bool() && !pass->get_bool() ? exit_refused : exit_ok;
    }
    if (options.no_wait) {
        if (!print_json(reply->body)) {
            console_.out << "transition " << text_at(reply->body, "id") << " is "
                         << text_at(reply->body, "state") << "\n";
        }
        return exit_ok;
    }
    return wait_for_transition(reply->location, reply->body);
}

int Commands::wait_for_transition(const std::string& target, boost::json::value transition) {
    std::size_t told = 0;
    for (;;) {
        if (const auto* log = find(transition, "log");
            log != nullptr && log->is_array() && !console_.json) {
            for (; told < log->get_array().size(); ++told) {
                const auto& entry = log->get_array()[told];
                const auto* at = find(entry, "at_unix_ms");
                end_progress();
                console_.out << (at != nullptr && at->is_int64() ? time_text(at->get_int64(), true)
                                                                 : "-")
                             << "  " << text_at(entry, "step") << "  " << text_at(entry, "message")
                             << std::endl;
            }
        }
        const std::string state = text_at(transition, "state");
        if (over(state)) {
            end_progress();
            if (!print_json(transition)) {
                print_blocked(console_.out, transition);
                const std::string line = "transition " + text_at(transition, "id") + " from " +
                                         text_at(transition, "from") + " to " +
                                         text_at(transition, "to") + ": " + state;
                console_.out << (state == "done" ? console_.style.good(line)
                                                 : console_.style.bad(line));
                if (const auto* pause = find(transition, "pause_microseconds");
                    pause != nullptr && pause->is_number()) {
                    console_.out << ", longest wait of a client "
                                 << pause->to_number<double>() / 1000 << " ms";
                }
                console_.out << "\n";
                if (const auto why = text_at(transition, "error"); !why.empty() && why != "-") {
                    console_.err << console_.error_style.bad("error: ") << why << "\n";
                }
            }
            return state == "done" ? exit_ok : state == "rejected" ? exit_refused : exit_not_done;
        }
        progress(state + ", waits for " + text_at(transition, "waiting_for"));
        int code = exit_ok;
        auto next = poll(target, code);
        if (!next) {
            return code;
        }
        transition = std::move(*next);
    }
}

std::optional<boost::json::value> Commands::poll(const std::string& target, int& code) {
    const auto until = std::chrono::steady_clock::now() + patience;
    for (;;) {
        std::this_thread::sleep_for(poll_interval);
        auto reply = client_.send("GET", target);
        if (reply && reply->ok() && reply->body.is_object()) {
            return std::move(reply->body);
        }
        if (reply && reply->status != 503) {
            end_progress();
            code = explain(*reply);
            return std::nullopt;
        }
        if (std::chrono::steady_clock::now() > until) {
            end_progress();
            console_.err << console_.error_style.bad("error: ")
                         << (reply ? "the server is overloaded" : reply.error().message)
                         << "; what was begun may still be going on\n";
            code = exit_unreachable;
            return std::nullopt;
        }
    }
}

void Commands::progress(const std::string& text) {
    if (!console_.terminal && !console_.json) {
        progress_line(text);
        return;
    }
    if (console_.terminal && !console_.json && text != last_progress_) {
        console_.out << "\r\033[K" << text << std::flush;
        last_progress_ = text;
    }
}

void Commands::end_progress() {
    if (!last_progress_.empty()) {
        console_.out << "\r\033[K" << std::flush;
        last_progress_.clear();
    }
}

}  // namespace banyan::ctl
