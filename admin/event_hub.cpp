#include "admin/event_hub.hpp"

#include <boost/asio/post.hpp>
#include <chrono>
#include <functional>

namespace banyan::admin {
namespace {

constexpr std::chrono::seconds interval{1};
constexpr unsigned ticks_between_comments = 10;

std::string revision(const boost::json::value& answer) {
    constexpr std::string_view digits = "0123456789abcdef";
    auto hash = std::hash<std::string>{}(boost::json::serialize(answer));
    std::string text;
    for (int i = 0; i < 16; ++i, hash >>= 4U) {
        text += digits[hash & 15U];
    }
    return text;
}

}  // namespace

std::string state_event(ControlApi& control) {
    const boost::json::object state{{"status", control.status()},
                                    {"revisions",
                                     {{"transitions", revision(control.transitions())},
                                      {"tables", revision(control.tables())},
                                      {"backfill", revision(control.backfill())},
                                      {"verifications", revision(control.verifications())},
                                      {"discrepancies", revision(control.discrepancies())},
                                      {"journal", revision(control.journal())},
                                      {"sessions", revision(control.sessions())},
                                      {"audit", revision(control.audit(1, std::nullopt))}}}};
    return "event: state\ndata: " + boost::json::serialize(state) + "\n\n";
}

void EventHub::add(Subscriber& subscriber) {
    subscribers_.insert(&subscriber);
    if (last_) {
        subscriber.push(last_);
    }
    if (!waiting_) {
        waiting_ = true;
        look();
    }
}

void EventHub::remove(Subscriber& subscriber) {
    subscribers_.erase(&subscriber);
}

void EventHub::stop() {
    stopped_ = true;
    timer_.reset();
}

void EventHub::wait() {
    if (!timer_) {
        timer_ = std::make_unique<boost::asio::steady_timer>(io_);
    }
    timer_->expires_after(interval);
    timer_->async_wait([this](const boost::system::error_code& error) {
        if (!error && !stopped_) {
            look();
        }
    });
}

// Nobody listens: nothing is asked, and the next listener begins with a fresh answer.
void EventHub::look() {
    if (stopped_ || subscribers_.empty()) {
        waiting_ = false;
        last_.reset();
        return;
    }
    if (++ticks_ % ticks_between_comments == 0) {
        for (auto* each : std::set<Subscriber*>(subscribers_)) {
            each->keep_alive();
        }
    }
    boost::asio::post(pool_, [this] {
        EventText state;
        try {
            state = std::make_shared<const std::string>(state_event(control_));
        } catch (const std::exception&) {  // said by whoever asks for the resource itself
        }
        boost::asio::post(io_, [this, state] {
            publish(state);
            if (!stopped_) {
                wait();
            }
        });
    });
}

void EventHub::publish(EventText state) {
    if (stopped_ || !state || (last_ && *last_ == *state)) {
        return;
    }
    last_ = std::move(state);
    for (auto* each : std::set<Subscriber*>(subscribers_)) {
        each->push(last_);
    }
}

}  // namespace banyan::admin
