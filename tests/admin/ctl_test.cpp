// banyanctl as a process in pipes, against the real server with a fake control plane.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "admin/auth.hpp"
#include "admin/server.hpp"
#include "tests/admin/fake_control.hpp"

namespace banyan::admin {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// The build puts it one folder above the test programs.
std::filesystem::path program() {
    return std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() /
           "banyanctl";
}

struct Outcome {
    int code = -1;
    std::string out;
    std::string err;
};

std::string slurp(const std::filesystem::path& file) {
    std::ifstream in(file);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

class Ctl : public testing::Test {
   protected:
    void SetUp() override {
        ASSERT_TRUE(std::filesystem::exists(program())) << "build the target banyanctl";
        config_.admin.port = 0;
        config_.admin.tokens = {{"olga", sha256_hex("secret"), "operator"},
                                {"vera", sha256_hex("look"), "viewer"}};
        auto started = Server::start(config_, control_, counters_);
        ASSERT_TRUE(started) << started.error().message;
        server_ = std::move(*started);
        environment_ =
            "BANYAN_TOKEN=secret BANYAN_URL=http://127.0.0.1:" + std::to_string(server_->port());
    }

    /// `arguments` and `environment_` go through a shell; standard input is `input`.
    Outcome run(const std::string& arguments, const std::string& input = "") {
        const auto base =
            std::filesystem::path(testing::TempDir()) / ("banyanctl_" + std::to_string(::getpid()));
        const std::string in = base.string() + ".in";
        const std::string err = base.string() + ".err";
        std::ofstream(in) << input;
        const std::string command = "env -i " + environment_ + " '" + program().string() + "' " +
                                    arguments + " <'" + in + "' 2>'" + err + "'";
        Outcome outcome;
        FILE* pipe = ::popen(command.c_str(), "r");
        char bytes[4096];
        for (std::size_t n = 0; (n = std::fread(bytes, 1, sizeof bytes, pipe)) > 0;) {
            outcome.out.append(bytes, n);
        }
        const int status = ::pclose(pipe);
        outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        outcome.err = slurp(err);
        std::filesystem::remove(in);
        std::filesystem::remove(err);
        return outcome;
    }

    router::Config config_;
    FakeControl control_;
    FakeCounters counters_;
    std::unique_ptr<Server> server_;
    std::string environment_;
};

struct Command {
    const char* arguments;
    const char* shows;
    const char* json_member;
};

TEST_F(Ctl, every_command_that_looks_works_in_a_pipe_for_people_and_for_programs) {
    const Command commands[] = {
        {"status", "[INITIAL] > DUAL_WRITE", "primary"},
        {"gates", "target_reachable", "gates"},
        {"gates --to DUAL_READ", "to DUAL_READ", "gates"},
        {"transitions", "t-000007", "transitions"},
        {"backfill", "idle", "state"},
        {"tables", "public.t", "tables"},
        {"tables public.t", "public.t", "name"},
        {"tables public.a/b", "public.a/b", "name"},
        {"discrepancies", "0 unacknowledged", "groups"},
        {"discrepancies f1", "f1", "fingerprint"},
        {"shadow", "share", "share"},
        {"journal", "dirty", "dirty"},
        {"sessions", "psql", "sessions"},
        {"audit", "none", "audit"},
    };
    for (const auto& command : commands) {
        SCOPED_TRACE(command.arguments);
        const Outcome plain = run(command.arguments);
        EXPECT_EQ(plain.code, 0) << plain.err;
        EXPECT_THAT(plain.out, AllOf(HasSubstr(command.shows), Not(HasSubstr("\033"))));
        EXPECT_THAT(plain.err, IsEmpty());
        const Outcome json = run(std::string(command.arguments) + " --json");
        EXPECT_EQ(json.code, 0) << json.err;
        EXPECT_TRUE(boost::json::parse(json.out).as_object().contains(command.json_member))
            << json.out;
    }
    EXPECT_THAT(control_.changes_now(), IsEmpty());
}

TEST_F(Ctl, advance_asks_for_the_phases_name_then_tells_every_step_once) {
    control_.set(&FakeControl::states, {"draining", "draining", "done"});
    const Outcome outcome = run("advance --reason 'go on'", "DUAL_WRITE\n");
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("Type DUAL_WRITE to go on"));
    for (const char* step : {"step1", "step2", "step3"}) {
        const auto at = outcome.out.find(step);
        ASSERT_NE(at, std::string::npos) << outcome.out;
        EXPECT_EQ(outcome.out.find(step, at + 1), std::string::npos) << outcome.out;
    }
    EXPECT_THAT(outcome.out, AllOf(HasSubstr("to DUAL_WRITE: done"), Not(HasSubstr("\r"))));
    EXPECT_THAT(control_.changes_now(),
                ElementsAre("olga@127.0.0.1: transition INITIAL DUAL_WRITE go on"));
}

TEST_F(Ctl, a_wrong_name_or_none_changes_nothing) {
    for (const char* typed : {"", "\n", "dual_write\n", "DUAL_READ\n", "yes\n"}) {
        const Outcome outcome = run("advance", typed);
        EXPECT_EQ(outcome.code, 1) << typed;
        EXPECT_THAT(outcome.err, HasSubstr("nothing was changed"));
    }
    EXPECT_THAT(control_.changes_now(), IsEmpty());
}

TEST_F(Ctl, rollback_goes_to_the_previous_phase) {
    control_.set(&FakeControl::current, router::Phase::dual_read);
    EXPECT_EQ(run("rollback --yes --reason x --deadline 2.5").code, 0);
    EXPECT_EQ(control_.get(&FakeControl::last_request).to, router::Phase::dual_write);
    EXPECT_EQ(control_.get(&FakeControl::last_request).deadline, std::chrono::milliseconds(2500));
    control_.set(&FakeControl::current, router::Phase::initial);
    EXPECT_EQ(run("rollback --yes").code, 2);
}

struct Ending {
    const char* state;
    int code;
};

TEST_F(Ctl, the_exit_code_tells_how_a_transition_ended) {
    for (const auto& ending : {Ending{"done", 0}, Ending{"rejected", 2}, Ending{"aborted", 4},
                               Ending{"timed_out", 4}, Ending{"failed", 4}}) {
        control_.set(&FakeControl::states, {ending.state});
        EXPECT_EQ(run("advance --yes").code, ending.code) << ending.state;
        const Outcome json = run("advance --yes --json");
        EXPECT_EQ(json.code, ending.code) << ending.state;
        EXPECT_EQ(boost::json::parse(json.out).at("state"), ending.state) << json.out;
    }
}

TEST_F(Ctl, the_exit_code_tells_a_refusal_a_stranger_a_silence_and_a_mistake) {
    EXPECT_EQ(run("").code, 1);
    EXPECT_EQ(run("dance").code, 1);
    EXPECT_EQ(run("backfill explode").code, 1);
    EXPECT_EQ(run("status --url ftp://x").code, 1);
    EXPECT_EQ(run("status --url ftp://127.0.0.1").code, 1);
    EXPECT_EQ(run("advance --yes --override-gates").code, 1);
    EXPECT_EQ(run("tables nothing").code, 2);
    EXPECT_EQ(run("status --token guess").code, 5);
    EXPECT_EQ(run("backfill start --token look").code, 5);
    EXPECT_EQ(run("advance --yes --token look").code, 5);
    control_.set(&FakeControl::refuse,
                 router::Refusal{409,
                                 "gates-failed",
                                 "A gate does not pass.",
                                 {{"current_phase", "INITIAL"}, {"gates", control_.gates({})}}});
    const Outcome refused = run("advance --yes");
    EXPECT_EQ(refused.code, 2);
    EXPECT_THAT(refused.err,
                AllOf(HasSubstr("A gate does not pass."), HasSubstr("target_reachable"),
                      HasSubstr("current phase: INITIAL")));
    server_->stop();
    EXPECT_EQ(run("status").code, 3);
    EXPECT_THAT(control_.changes_now(), IsEmpty());
}

TEST_F(Ctl, gates_that_do_not_pass_are_exit_code_two) {
    for (const char* verdict : {"fail", "inconclusive"}) {
        control_.set(&FakeControl::gate_verdict, verdict);
        const Outcome outcome = run("gates");
        EXPECT_EQ(outcome.code, 2);
        EXPECT_THAT(outcome.out, HasSubstr(verdict));
        EXPECT_EQ(run("advance --dry-run").code, 2);
    }
}

TEST_F(Ctl, verify_waits_and_tells_the_result) {
    EXPECT_EQ(run("verify --tables public.a,public.b --repair").code, 0);
    EXPECT_EQ(run("verify --wait").code, 0);
    control_.set(&FakeControl::verification_state, "different");
    EXPECT_EQ(run("verify --wait").code, 2);
    control_.set(&FakeControl::verification_state, "stopped");
    EXPECT_EQ(run("verify --wait").code, 4);
    EXPECT_EQ(control_.changes_now().front(), "olga@127.0.0.1: verify+repair public.a public.b");
}

TEST_F(Ctl, changes_reach_the_control_plane) {
    EXPECT_EQ(run("backfill start").code, 0);
    EXPECT_EQ(run("backfill pause --json").code, 0);
    EXPECT_EQ(run("cancel").code, 0);
    EXPECT_EQ(run("cancel t-3").code, 0);
    EXPECT_EQ(run("shadow --share 0.5").code, 0);
    EXPECT_EQ(run("discrepancies f1 --ack --note seen").code, 0);
    EXPECT_THAT(run("reload").out,
                AllOf(HasSubstr("applied  log.level"),
                      HasSubstr("listen.port needs a restart; it keeps 6432")));
    EXPECT_THAT(
        control_.changes_now(),
        ElementsAre("olga@127.0.0.1: backfill start", "olga@127.0.0.1: backfill pause",
                    "olga@127.0.0.1: cancel t-000007", "olga@127.0.0.1: cancel t-3",
                    "olga@127.0.0.1: share 0.500000", "olga@127.0.0.1: acknowledge f1 seen",
                    "olga@127.0.0.1: reload"));
}

TEST_F(Ctl, the_token_may_be_in_a_file) {
    const auto file =
        std::filesystem::path(testing::TempDir()) / ("token_" + std::to_string(::getpid()));
    std::ofstream(file) << "secret\n";
    environment_ = "BANYAN_URL=http://127.0.0.1:" + std::to_string(server_->port());
    EXPECT_EQ(run("status").code, 5);
    EXPECT_EQ(run("status --token-file " + file.string()).code, 0);
    environment_ += " BANYAN_TOKEN_FILE=" + file.string();
    EXPECT_EQ(run("status").code, 0);
    EXPECT_EQ(run("status --token-file /nonexistent").code, 1);
    std::filesystem::remove(file);
}

TEST_F(Ctl, nothing_from_a_client_reaches_the_terminal_as_a_control_character) {
    control_.set(&FakeControl::application, "x\033]0;owned\007\xC2\x9By");
    const Outcome outcome = run("sessions");
    EXPECT_THAT(outcome.out, HasSubstr("x?]0;owned??y"));
    EXPECT_EQ(outcome.out.find_first_of("\033\007"), std::string::npos);
}

TEST_F(Ctl, help_documents_the_exit_codes) {
    const Outcome outcome = run("--help");
    EXPECT_EQ(outcome.code, 0);
    for (const char* text :
         {"  0  ", "  1  ", "  2  ", "  3  ", "  4  ", "  5  ", "BANYAN_TOKEN", "rollback"}) {
        EXPECT_THAT(outcome.out, HasSubstr(text));
    }
    EXPECT_EQ(run("--version").code, 0);
}

}  // namespace
}  // namespace banyan::admin
