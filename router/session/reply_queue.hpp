// The queue of expected replies of one server connection. Every message that will be answered
// enters it; every reply must be explained by its front. A reply that it cannot explain means the
// stream cannot be trusted and the session must end: never resynchronise by guessing.
//
// Rules mirrored from PostgreSQL's backend/tcop/postgres.c (ignore_till_sync, doing_extended_query)
// and backend/commands/copyfromparse.c (Sync and Flush are swallowed in copy-in mode).
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace banyan::router {

enum class Expect : std::uint8_t {
    parse,
    bind,
    describe_statement,
    describe_portal,
    execute,
    close,
    sync,
    query,
    function_call,
    copy_end,  ///< CopyDone or CopyFail: a marker, never answered by itself
};

/// Receives each reply of an entry, `whole` being the message with its header. Type 0: the entry
/// fell because of an error before it; no reply will come.
class ReplySink {
   public:
    virtual ~ReplySink() = default;
    virtual void reply(char type, std::string_view body, std::string_view whole) = 0;
};
using ReplyHandler = std::shared_ptr<ReplySink>;

/// A ReplySink from a callable (char type, string_view body, string_view whole).
template <class F>
ReplyHandler on_reply(F function) {
    class Sink final : public ReplySink {
       public:
        explicit Sink(F f) : function_(std::move(f)) {}
        void reply(char type, std::string_view body, std::string_view whole) override {
            function_(type, body, whole);
        }

       private:
        F function_;
    };
    return std::make_shared<Sink>(std::move(function));
}

struct Expected {
    Expect kind = Expect::sync;
    bool described = false;  ///< describe_statement: ParameterDescription has come
    ReplyHandler handler;    ///< null: the reply goes to the client as it is
};

class ReplyQueue {
   public:
    /// A message of this kind was sent.
    void push(Expect kind, ReplyHandler handler = nullptr);

    enum class Verdict : std::uint8_t {
        asynchronous,  ///< notice, notification, parameter status: goes to the client
        expected,      ///< belongs to `handler` (or to the client, if null)
        violation,     ///< nothing explains it
    };
    struct Explained {
        Verdict verdict = Verdict::violation;
        ReplyHandler handler;  ///< null: the client's
    };
    /// One message from the server.
    Explained explain(char type);
    /// True if the next reply, should it be a DataRow or CopyData, goes to the client unread: then
    /// it may be streamed.
    bool front_is_plain() const;

    /// Everything sent was answered.
    bool empty() const { return size_ == 0; }
    std::size_t size() const { return size_; }
    /// Of what was sent and not answered nothing runs: Parse, Bind, Describe and Close only.
    bool only_prepares() const;
    /// How many ReadyForQuery are still to come.
    std::size_t ready_pending() const { return ready_pending_; }
    /// An error in the extended protocol: the server ignores everything until Sync.
    bool skipping() const { return skipping_; }
    /// The server reads copy data, and the end of it has not been sent: it swallows a Sync.
    bool copying_in() const { return copy_in_ && !copy_end_sent_; }
    /// The kind at the front; only if !empty().
    Expect front_kind() const { return at(0).kind; }

   private:
    Expected& at(std::size_t i) { return ring_[(head_ + i) & (ring_.size() - 1)]; }
    const Expected& at(std::size_t i) const { return ring_[(head_ + i) & (ring_.size() - 1)]; }
    void append(Expected entry);
    Expected pop();
    void skip_markers();
    void drop_until_sync();
    void enter_copy_in();
    Explained finish(bool matches);
    Explained go_on(bool matches);
    bool front_is(Expect kind) const { return size_ > 0 && at(0).kind == kind; }

    std::vector<Expected> ring_;
    std::size_t head_ = 0;
    std::size_t size_ = 0;
    std::size_t ready_pending_ = 0;
    bool skipping_ = false;
    bool copy_in_ = false;
    bool copy_end_sent_ = false;
};

}  // namespace banyan::router
