// GET /api/v1/events: what operators look at, pushed. While anybody listens, the control plane is
// asked once a second, for all of them together; when an answer differs from the one before, every
// listener gets it:
//
//   event: state
//   data: {"status": <GET status>, "revisions": {"tables": "1f0c...", "transitions": ..., ...}}
//
// A revision is a text that changes when the resource does: whoever shows it asks for it again. A
// comment line goes out every 10 s. Who reads too slowly skips states, and always gets the newest.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <set>
#include <string>

#include "admin/control_api.hpp"

namespace banyan::admin {

using EventText = std::shared_ptr<const std::string>;

class Subscriber {
   public:
    virtual ~Subscriber() = default;
    /// One or more whole events. Replaces a text that has not begun to be sent.
    virtual void push(EventText text) = 0;
    /// Every 10 s: says something, or ends, if what let it in no longer would (a token that has expired).
    virtual void keep_alive() = 0;
};

/// All members on the io thread, but for what asks the control plane. It may be destroyed after the
/// io_context, if stop() was called.
class EventHub {
   public:
    /// References outlive the hub.
    EventHub(boost::asio::io_context& io, boost::asio::thread_pool& pool, ControlApi& control)
        : io_(io), pool_(pool), control_(control) {}

    std::size_t size() const { return subscribers_.size(); }
    /// Gets the last state at once, if there is one.
    void add(Subscriber& subscriber);
    void remove(Subscriber& subscriber);
    void stop();

   private:
    void wait();
    void look();
    void publish(EventText state);

    boost::asio::io_context& io_;
    boost::asio::thread_pool& pool_;
    ControlApi& control_;
    std::unique_ptr<boost::asio::steady_timer> timer_;  ///< none before the first and after stop()
    std::set<Subscriber*> subscribers_;
    EventText last_;
    unsigned ticks_ = 0;
    bool waiting_ = false;
    bool stopped_ = false;
};

/// The event that says how everything is now. Asks the control plane; may take as long as it does.
std::string state_event(ControlApi& control);

}  // namespace banyan::admin
