// [mirror] on_mirror_failure = "reject": a transaction that writes commits on the primary only if the
// mirror has everything of it, and its keys are in the journal. Until the primary's COMMIT is sent
// there is a transaction to fail; what the mirror does with its own COMMIT after that is the
// journal's business, as ever. What cannot be rolled back (COMMIT PREPARED, a CALL that commits on
// its way) is refused before it is sent, or not at all. Routes and tests: README.md.
//
// 40001, since the client must do the whole transaction again: that is what drivers and frameworks
// retry, and unlike classes 08 and 57 it makes no pool throw its connection away.

#include <utility>

#include "router/session/session_machine.hpp"

namespace banyan::router {
namespace {

constexpr std::string_view reject_hint =
    "[mirror] on_mirror_failure of Banyan's configuration is \"reject\": retry the transaction.";

}  // namespace

// Not with the breaker open either: what the mirror was given before that may never be committed there.
bool SessionMachine::mirror_takes_part() {
    return !txn_.mirror_lost && mirror_.ready() && port_.breaker().allows() &&
           !(mirror_.in_transaction() && mirror_.failed());
}

/// Known before it runs: no wait, and nothing of it on the primary.
bool SessionMachine::refuses_now(const Decision& decision) {
    if (!rejects() || status_ == 'E' || replies_.skipping()) {
        return false;
    }
    bool writes = false;
    switch (decision.route) {
        case Route::capture:
        case Route::mirrored_text:
        case Route::copy:
        case Route::suspect:
            writes = true;
            break;
        case Route::guarded:  // whether it writes is measured, and told at the end
            writes = decision.may_commit && !in_block_;
            break;
        case Route::commit_prepared:
            writes = !in_block_;  // inside of one the server refuses it
            break;
        case Route::forward:
        case Route::settings:
        case Route::refuse:
        case Route::begin:
        case Route::commit:
        case Route::rollback:
        case Route::savepoint:
        case Route::release:
        case Route::rollback_to:
        case Route::prepare_transaction:
            break;
    }
    return writes && !mirror_takes_part() && (txn_.mirror_lost || !mirror_is_coming());
}

// Nothing of the statement reaches the primary, but it is made to fail there, as any other error.
void SessionMachine::refuse_write(std::function<void()> refused) {
    port_.counters().add(Counter::writes_rejected);
    std::string message;
    protocol::encode_describe(message, 'S', "banyan refuses this statement");
    send_primary(message, Expect::describe_statement,
                 on_reply([this, refused = std::move(refused)](char type, std::string_view,
                                                               std::string_view reply) {
                     if (type != 'E') {
                         to_client_.append(reply);
                         return;
                     }
                     protocol::encode_error(to_client_, "ERROR", "40001",
                                            "writes are refused while the mirror does not take part",
                                            reject_hint);
                     if (refused) {
                         refused();
                     }
                 }));
    wait_primary();
}

// At the commit barrier, behind everything that the mirror was given.
void SessionMachine::reject_unmirrored() {
    const bool open = in_block_ || unsynced_;
    if (!rejects() || !open || guard_txn_ || !txn_.has_work() || mirror_takes_part()) {
        return;
    }
    std::string error;
    protocol::encode_error(error, "ERROR", "40001",
                           "the transaction was rolled back: the mirror did not take part in it",
                           reject_hint);
    reject_commit(std::move(error));
}

void SessionMachine::reject_unjournaled() {
    std::string error;
    protocol::encode_error(error, "ERROR", "40001",
                           "the transaction was rolled back: its keys could not be journaled",
                           reject_hint);
    reject_commit(std::move(error));
}

// Steps: a query that no server understands fails the transaction; `error` is told in its place, and
// becomes the answer to a block's COMMIT.
void SessionMachine::reject_commit(std::string error) {
    port_.counters().add(Counter::writes_rejected);
    ending_block_ = in_block_;
    own_query({"banyan refuses this transaction", true, false, nullptr,
               [this](bool) { ending_block_ = false; }, std::move(error)});
}

}  // namespace banyan::router
