// Reads what the servers keep of a role's password (pg_authid.rolpassword), as Banyan's own role: a
// superuser, or one with SELECT on pg_authid. One thread and one connection for each side, so that
// a server that hangs holds up nobody who asks for the other. Nothing is kept once it was answered.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "router/auth/role_verifiers.hpp"
#include "router/config/config.hpp"

namespace banyan::router {

class Verifiers {
   public:
    /// Called once, on any thread. Every question is answered within a few seconds (the side's
    /// connect_timeout, and two for the query), if only by saying why it could not be.
    using Answer = std::function<void(std::shared_ptr<const RoleVerifiers>)>;

    explicit Verifiers(const Config& config);
    ~Verifiers();
    Verifiers(const Verifiers&) = delete;
    Verifiers& operator=(const Verifiers&) = delete;

    /// Does not block; any thread. `only`: do not ask the other side, which may be down.
    void request(const std::string& user, std::optional<Side> only, Answer answer);
    /// Ends the threads; what was not answered never is.
    void stop();

   private:
    class Reader;
    std::array<std::unique_ptr<Reader>, 2> readers_;
};

}  // namespace banyan::router
