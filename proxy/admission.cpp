#include "proxy/admission.hpp"

namespace banyan::proxy {

std::shared_ptr<Admission::Ticket> Admission::connect() {
    const std::lock_guard lock(mutex_);
    if (unauthenticated_ >= limits_.max_unauthenticated) {
        return nullptr;
    }
    ++unauthenticated_;
    return std::make_shared<Ticket>(*this);
}

void Admission::set_limits(const router::Config::Limits& limits) {
    const std::lock_guard lock(mutex_);
    limits_ = limits;
}

bool Admission::Ticket::admit() {
    const std::lock_guard lock(admission_.mutex_);
    if (client_) {
        return true;
    }
    if (admission_.clients_ >= admission_.limits_.max_clients) {
        return false;
    }
    ++admission_.clients_;
    client_ = true;
    return true;
}

bool Admission::Ticket::authenticated(const std::string& user) {
    const std::lock_guard lock(admission_.mutex_);
    if (!authenticated_) {
        authenticated_ = true;
        --admission_.unauthenticated_;
    }
    const auto limit = admission_.limits_.max_clients_per_user;
    if (user.empty() || !user_.empty()) {
        return true;
    }
    // Counted without a limit too: a reload may bring one.
    auto& count = admission_.users_[user];
    if (limit != 0 && count >= limit) {
        return false;
    }
    ++count;
    user_ = user;
    return true;
}

Admission::Ticket::~Ticket() {
    const std::lock_guard lock(admission_.mutex_);
    if (!authenticated_) {
        --admission_.unauthenticated_;
    }
    if (client_) {
        --admission_.clients_;
    }
    if (const auto found = admission_.users_.find(user_);
        !user_.empty() && found != admission_.users_.end() && --found->second == 0) {
        admission_.users_.erase(found);
    }
}

}  // namespace banyan::proxy
