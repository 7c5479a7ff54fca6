#include "router/session/reply_queue.hpp"

#include <utility>

namespace banyan::router {

namespace {

bool brings_ready(Expect kind) {
    return kind == Expect::sync || kind == Expect::query || kind == Expect::function_call;
}

}  // namespace

void ReplyQueue::append(Expected entry) {
    ready_pending_ += brings_ready(entry.kind) ? 1U : 0U;
    if (size_ == ring_.size()) {
        std::vector<Expected> larger(ring_.empty() ? 8 : ring_.size() * 2);
        for (std::size_t i = 0; i < size_; ++i) {
            larger[i] = std::move(at(i));
        }
        ring_ = std::move(larger);
        head_ = 0;
    }
    ring_[(head_ + size_) & (ring_.size() - 1)] = std::move(entry);
    ++size_;
}

Expected ReplyQueue::pop() {
    Expected entry = std::move(at(0));
    at(0).handler = nullptr;
    ready_pending_ -= brings_ready(entry.kind) ? 1U : 0U;
    head_ = (head_ + 1) & (ring_.size() - 1);
    --size_;
    return entry;
}

void ReplyQueue::push(Expect kind, ReplyHandler handler) {
    if (copying_in()) {
        if (kind == Expect::sync) {
            return;  // swallowed by the server: CopyGetData ignores Flush and Sync
        }
        copy_end_sent_ = true;
        if (kind != Expect::copy_end && handler) {
            handler->reply(0, {}, {});  // CopyGetData reads it, fails the copy, and it is lost
        }
        return;
    }
    if (kind == Expect::copy_end && size_ == 0) {
        return;  // nothing is under way that could still ask for copy data
    }
    if (skipping_ && kind != Expect::sync) {
        if (handler) {
            handler->reply(0, {}, {});
        }
        return;
    }
    if (kind == Expect::sync) {
        skipping_ = false;
    }
    append({kind, false, std::move(handler)});
}

// A CopyDone sent before the server entered copy-in mode stands in the queue as a marker; if COPY
// failed early, the server ignores the message itself.
void ReplyQueue::skip_markers() {
    while (front_is(Expect::copy_end)) {
        pop();
    }
}

// The server entered copy-in mode while later messages are already under way: each Sync up to the
// end of the copy is swallowed, and so is the message that ends it, be it CopyDone or one that does
// not belong there (CopyGetData: "unexpected message type during COPY from stdin").
void ReplyQueue::enter_copy_in() {
    copy_in_ = true;
    copy_end_sent_ = false;
    std::vector<Expected> kept;
    kept.push_back(pop());
    while (size_ > 0) {
        Expected entry = pop();
        if (copy_end_sent_) {
            kept.push_back(std::move(entry));
        } else if (entry.kind != Expect::sync) {
            copy_end_sent_ = true;
            if (entry.handler) {
                entry.handler->reply(0, {}, {});
            }
        }
    }
    for (auto& entry : kept) {
        append(std::move(entry));
    }
}

void ReplyQueue::drop_until_sync() {
    while (size_ > 0 && at(0).kind != Expect::sync) {
        const Expected fallen = pop();
        if (fallen.handler) {
            fallen.handler->reply(0, {}, {});
        }
    }
    skipping_ = size_ == 0;
}

ReplyQueue::Explained ReplyQueue::finish(bool matches) {
    if (!matches) {
        return {};
    }
    Explained explained{Verdict::expected, std::move(pop().handler)};
    skip_markers();
    return explained;
}

ReplyQueue::Explained ReplyQueue::go_on(bool matches) {
    if (!matches) {
        return {};
    }
    return {Verdict::expected, at(0).handler};
}

ReplyQueue::Explained ReplyQueue::explain(char type) {
    if (type == 'N' || type == 'S' || type == 'A') {
        return {Verdict::asynchronous, nullptr};
    }
    const bool running = front_is(Expect::execute) || front_is(Expect::query);
    switch (type) {
        case '1':
            return finish(front_is(Expect::parse));
        case '2':
            return finish(front_is(Expect::bind));
        case '3':
            return finish(front_is(Expect::close));
        case 't':
            if (front_is(Expect::describe_statement) && !at(0).described) {
                at(0).described = true;
                return go_on(true);
            }
            return {};
        case 'T':
        case 'n':
            if (type == 'T' && front_is(Expect::query)) {
                return go_on(true);
            }
            return finish(front_is(Expect::describe_portal) ||
                          (front_is(Expect::describe_statement) && at(0).described));
        case 'D':
        case 'd':
        case 'c':
        case 'H':
        case 'W':
            return go_on(running);
        case 'G':
            if (!running || copy_in_) {
                return {};
            }
            enter_copy_in();
            return go_on(true);
        case 'C':
        case 'I':
        case 's':
            copy_in_ = false;
            return front_is(Expect::query) ? go_on(type != 's') : finish(front_is(Expect::execute));
        case 'V':
            return go_on(front_is(Expect::function_call));
        case 'E': {
            copy_in_ = false;
            if (size_ == 0) {
                return {Verdict::asynchronous, nullptr};  // FATAL to an idle session
            }
            if (front_is(Expect::query) || front_is(Expect::function_call) ||
                front_is(Expect::sync)) {
                return go_on(true);  // ReadyForQuery follows
            }
            Explained explained = finish(true);
            drop_until_sync();
            return explained;
        }
        case 'Z':
            return finish(front_is(Expect::sync) || front_is(Expect::query) ||
                          front_is(Expect::function_call));
        default:
            return {};
    }
}

bool ReplyQueue::only_prepares() const {
    for (std::size_t i = 0; i < size_; ++i) {
        const Expect kind = at(i).kind;
        if (kind != Expect::parse && kind != Expect::bind && kind != Expect::describe_portal &&
            kind != Expect::describe_statement && kind != Expect::close) {
            return false;
        }
    }
    return true;
}

bool ReplyQueue::front_is_plain() const {
    return size_ > 0 && (at(0).kind == Expect::execute || at(0).kind == Expect::query) &&
           !at(0).handler;
}

}  // namespace banyan::router
