// A connection to each side, by the role they have in a phase. For one thread.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "router/config/config.hpp"
#include "router/model/types.hpp"
#include "router/pg/connection.hpp"

namespace banyan::router {

class BothSides {
   public:
    explicit BothSides(std::string application) : application_(std::move(application)) {}

    /// Opens what is not open, or open the other way round. After an error nothing is.
    Result<void> connect(const Config& config, Phase phase) {
        if (primary_ && mirror_ && connected_as_ == primary_of(phase) && primary_->alive() &&
            mirror_->alive()) {
            return {};
        }
        close();
        const bool source_first = primary_of(phase) == Side::source;
        auto primary =
            Connection::open(source_first ? config.source : config.target, application_);
        if (!primary) {
            return primary.error();
        }
        auto mirror = Connection::open(source_first ? config.target : config.source, application_);
        if (!mirror) {
            return mirror.error();
        }
        primary_.emplace(std::move(*primary));
        mirror_.emplace(std::move(*mirror));
        connected_as_ = primary_of(phase);
        return {};
    }
    void close() {
        primary_.reset();
        mirror_.reset();
    }
    /// Only while connected.
    Connection& primary() { return *primary_; }
    Connection& mirror() { return *mirror_; }

   private:
    const std::string application_;
    std::optional<Connection> primary_;
    std::optional<Connection> mirror_;
    Side connected_as_ = Side::source;
};

}  // namespace banyan::router
