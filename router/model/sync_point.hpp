// Named moments at which a test can end, stop or delay this very process: between two steps that
// stand next to each other in the code, where no outside clock would ever hit. Compiled in by the
// CMake option BANYAN_SYNC_POINTS alone (presets asan, tsan and mutants); otherwise nothing.
//
// What shall happen stands in the environment's BANYAN_SYNC, or in the file that BANYAN_SYNC_FILE
// names, which is read again at each point, so that a test can arm a point at run time. Both hold
// one "point=action[:n]" (or nothing), the action being
//   kill9       this process ends by SIGKILL at the n-th hit since the point was armed (default 1)
//   stop        it stops itself (SIGSTOP) then
//   pause=MS    that thread sleeps, at each hit or at the n-th alone. Never on an event loop.
// The first hit of each point is noted in BANYAN_SYNC_FILE + ".hits", a line each, and what was done
// as "point!". tests/faults reads the list below.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace banyan::router {

// X(name, thread, when). A "loop" is an event loop and must not sleep.
#define BANYAN_SYNC_POINT_LIST(X)                                                           \
    X(journaled, loop, "the entry is durable, COMMIT not yet sent to the primary")          \
    X(commit_sent, loop, "COMMIT was sent to the primary")                                  \
    X(commit_answered, loop, "the primary has answered, nobody was told")                   \
    X(mirror_commit_sent, loop, "COMMIT was sent to the mirror, the client not told")       \
    X(client_told, loop, "the client was told, the mirror has not answered")                \
    X(mirror_answered, loop, "the mirror has answered, the entry is still there")           \
    X(journal, worker, "the journal's writer, before the entry is written")                 \
    X(chunk_read, worker, "a chunk was read and sent to the target")                        \
    X(chunk_inserted, worker, "its rows were inserted, not committed")                      \
    X(chunk_committed, worker, "committed, its window still open")                          \
    X(repair_look, worker, "the mirror's row is locked")                                    \
    X(repair_read, worker, "the primary's row was read and is locked")                      \
    X(repair_written, worker, "the mirror's row was written, not committed")                \
    X(repair_committed, worker, "committed, not flushed")                                   \
    X(repair_batch, worker, "flushed, the keys not cleared")                                \
    X(limbo_gone, worker, "the backends of a lost transaction are gone, its keys not dirty") \
    X(verified, worker, "a table was verified, its suspicion not cleared")                  \
    X(recovering, worker, "started again, backends of the dead process not waited for")     \
    X(recovered, worker, "they are gone, repair and backfill not started")                  \
    X(catalog_loaded, worker, "a transition that begins mirroring knows both catalogues")   \
    X(hold_published, worker, "sessions were told to hold, not all do")                     \
    X(held, worker, "all sessions hold")                                                    \
    X(drained, worker, "nothing is in flight or dirty")                                     \
    X(sequences_advanced, worker, "the new primary's sequences are ahead")                  \
    X(before_persist, worker, "the last step that can be undone is done")                   \
    X(persisted, worker, "the new phase is durable, no session knows")                      \
    X(published, worker, "sessions were told, not all follow")                              \
    X(adopted, worker, "all sessions follow, workers not started or stopped")               \
    X(workers_started, worker, "repair and backfill were started")                          \
    X(workers_stopped, worker, "they were stopped, the journal not forgotten")              \
    X(forgotten, worker, "the journal was forgotten, the backfill's progress not")

enum class SyncPoint : std::uint8_t {
#define BANYAN_SYNC_POINT_NAME(name, thread, when) name,
    BANYAN_SYNC_POINT_LIST(BANYAN_SYNC_POINT_NAME)
#undef BANYAN_SYNC_POINT_NAME
};

#ifdef BANYAN_SYNC_POINTS
void sync_point(SyncPoint point);
/// Passed when the bytes that this thread's present event has made are handed to the kernel: said by
/// the session machine, and taken up by its driver, which alone knows when that is (they may
/// still wait if a socket is full).
void sync_point_pending(SyncPoint point);
void sync_points_due(std::initializer_list<SyncPoint> points);
#else
constexpr void sync_point(SyncPoint) {}
constexpr void sync_point_pending(SyncPoint) {}
constexpr void sync_points_due(std::initializer_list<SyncPoint>) {}
#endif

}  // namespace banyan::router
