// The client's waits for the mirror, bounded (MirrorPatience), and what a mirror that fails means for
// the breaker that all sessions share.

#include <utility>

#include "router/session/session_machine.hpp"

namespace banyan::router {

// A step: until `over`, but no longer than patience lasts; a `longest` is for what takes its time.
void SessionMachine::await_mirror(std::function<bool()> over, std::chrono::milliseconds longest) {
    using Clock = std::chrono::steady_clock;
    auto began = std::make_shared<std::optional<Clock::time_point>>();
    then([this, over = std::move(over), longest, began] {
        if (mirror_.open_writes() > 0) {
            mirror_.end_group(mirror_out());
        }
        const bool done = over();
        if (!*began) {
            last_wait_slow_ = false;
            if (done) {
                return true;
            }
            *began = port_.now();
            patience_.notice(port_.breaker().opened_total());
            awaiting_mirror_ = true;
            await_timed_out_ = false;
            port_.set_deadline(Deadline::mirror,
                               std::max(longest, patience_.left(mirror_timeout())));
            return false;
        }
        if (!done) {
            return false;
        }
        awaiting_mirror_ = false;
        port_.clear_deadline(Deadline::mirror);
        port_.clear_deadline(Deadline::shadow_yield);
        const auto took =
            std::chrono::duration_cast<std::chrono::milliseconds>(port_.now() - **began);
        if (txn_.mirror_lost || mirror_.state() == MirrorLink::State::down) {
            patience_.in_vain(took);
            if (!await_timed_out_) {
                port_.counters().add(Counter::mirror_waits_failed);
            }
            return true;
        }
        port_.counters().add(Counter::mirror_wait_microseconds,
                             static_cast<std::uint64_t>(
                                 std::chrono::duration_cast<std::chrono::microseconds>(
                                     port_.now() - **began)
                                     .count()));
        if (longest.count() == 0) {
            patience_.answered(took, mirror_timeout());
            last_wait_slow_ = took > MirrorPatience::prompt(mirror_timeout());
        }
        port_.counters().add(last_wait_slow_ ? Counter::mirror_waits_slow
                                             : Counter::mirror_waits_answered);
        return true;
    });
}

// Deadline::mirror. Who waited in vain for the whole time opens the breaker at once; who had little
// patience left has seen a mirror that is slow, which counts.
void SessionMachine::mirror_timed_out() {
    cancel_mirror();
    if (stage_ == Stage::closing) {
        finish_mirror();
        finish_if_done();
        return;
    }
    const bool login = mirror_.state() == MirrorLink::State::connecting ||
                       mirror_.state() == MirrorLink::State::login;
    if (mirror_.drained() && !(awaiting_mirror_ && login)) {
        return;
    }
    await_timed_out_ = true;
    port_.counters().add(Counter::mirror_waits_timed_out);
    const bool slow = awaiting_mirror_ && !patience_.whole();
    on_mirror_lost("the mirror did not answer in time",
                   slow ? MirrorFault::slow : MirrorFault::timed_out);
}

void SessionMachine::note_fault(MirrorFault fault, const std::string& why) {
    if (fault == MirrorFault::connections) {
        port_.breaker().no_room(why, port_.now());
        return;
    }
    const bool opened = fault == MirrorFault::timed_out
                            ? port_.breaker().open(fault, why, port_.now())
                            : port_.breaker().failed(fault, why, port_.now());
    if (opened) {
        port_.log(4, "the mirror's breaker is open (" + std::string(to_string(fault)) +
                         "): keys are journaled only: " + why);
    }
}

// Nobody waits for a COMMIT of the mirror's, so its answer has a deadline of its own. Each answer
// gives the next one the whole time again.
void SessionMachine::watch_owed_commits() {
    if (mirror_.owes_commit()) {
        port_.set_deadline(Deadline::mirror_commit,
                           std::max(mirror_timeout(), txn_.mirrored_ddl ? config_.mirror.ddl_timeout
                                                                        : mirror_timeout()));
    } else {
        port_.clear_deadline(Deadline::mirror_commit);
    }
}

}  // namespace banyan::router
