// How many clients may be there: in all, per role, and before they have logged in. Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "router/config/config.hpp"

namespace banyan::proxy {

class Admission {
   public:
    explicit Admission(const router::Config::Limits& limits) : limits_(limits) {}

    /// One connection's place. Gives back what it holds when it goes.
    class Ticket {
       public:
        explicit Ticket(Admission& admission) : admission_(admission) {}
        ~Ticket();
        Ticket(const Ticket&) = delete;
        Ticket& operator=(const Ticket&) = delete;

        /// Its startup message has come: from here on it is a client. False: there are max_clients.
        bool admit();
        /// It has proved who it is. False: the role has max_clients_per_user.
        bool authenticated(const std::string& user);

       private:
        friend class Admission;
        Admission& admission_;
        bool client_ = false;
        bool authenticated_ = false;
        std::string user_;  ///< empty: not counted
    };

    /// A new connection; null if max_unauthenticated are under way. A CancelRequest is one too:
    /// they have room here when there is none for clients.
    std::shared_ptr<Ticket> connect();
    /// For those to come: who is there stays.
    void set_limits(const router::Config::Limits& limits);

   private:
    router::Config::Limits limits_;
    std::mutex mutex_;
    std::uint32_t unauthenticated_ = 0;
    std::uint32_t clients_ = 0;
    std::map<std::string, std::uint32_t> users_;
};

}  // namespace banyan::proxy
