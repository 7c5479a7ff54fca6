#include "router/migration/plan.hpp"

namespace banyan::router {

std::string_view to_string(Step step) {
    switch (step) {
        case Step::check_gates:
            return "check_gates";
        case Step::load_catalog:
            return "load_catalog";
        case Step::prepare_flip:
            return "prepare_flip";
        case Step::ask_sessions:
            return "ask_sessions";
        case Step::settle:
            return "settle";
        case Step::hold:
            return "hold";
        case Step::drain:
            return "drain";
        case Step::check_writers:
            return "check_writers";
        case Step::advance_sequences:
            return "advance_sequences";
        case Step::prove_reverse:
            return "prove_reverse";
        case Step::persist:
            return "persist";
        case Step::publish:
            return "publish";
        case Step::adopt:
            return "adopt";
        case Step::start_workers:
            return "start_workers";
        case Step::stop_workers:
            return "stop_workers";
    }
    return "?";
}

std::string_view describe(Step step) {
    switch (step) {
        case Step::check_gates:
            return "Measure the gates.";
        case Step::load_catalog:
            return "Read both catalogues: which tables are mirrored, by which key.";
        case Step::prepare_flip:
            return "Do everything slow beforehand: open connections, read the new primary's "
                   "catalogue, "
                   "advance the sequences a first time, create the heartbeat tables.";
        case Step::ask_sessions:
            return "Ask every session what it owns; wait for those that own what cannot be brought "
                   "along.";
        case Step::settle:
            return "Wait for a moment without long transactions and without dirty keys.";
        case Step::hold:
            return "Hold every session at its next transaction boundary.";
        case Step::drain:
            return "Wait until no commit is in flight, no key is dirty, no table suspect.";
        case Step::check_writers:
            return "Look for writers on the primary that bypass Banyan.";
        case Step::advance_sequences:
            return "Advance the new primary's sequences a last time.";
        case Step::prove_reverse:
            return "Write to both databases and commit.";
        case Step::persist:
            return "Make the new phase durable.";
        case Step::publish:
            return "Tell every session.";
        case Step::adopt:
            return "Wait until every session follows.";
        case Step::start_workers:
            return "Start repair and backfill.";
        case Step::stop_workers:
            return "Stop backfill and repair; forget journal and progress.";
    }
    return "?";
}

bool legal_step(Phase from, Phase to) {
    const int step = static_cast<int>(to) - static_cast<int>(from);
    return step == 1 || (step == -1 && from != Phase::complete);
}

std::vector<Step> plan_of(Phase from, Phase to) {
    if (!legal_step(from, to)) {
        return {};
    }
    if (flips(from, to)) {
        return {Step::check_gates,
                Step::prepare_flip,
                Step::ask_sessions,
                Step::settle,
                Step::hold,
                Step::drain,
                Step::check_writers,
                Step::advance_sequences,
                Step::prove_reverse,
                Step::persist,
                Step::publish,
                Step::adopt};
    }
    if (!mirrors(from)) {
        return {Step::check_gates, Step::load_catalog, Step::persist,
                Step::publish,     Step::adopt,        Step::start_workers};
    }
    if (!mirrors(to)) {
        return {Step::check_gates, Step::persist, Step::publish, Step::adopt, Step::stop_workers};
    }
    return {Step::check_gates, Step::persist, Step::publish, Step::adopt};
}

}  // namespace banyan::router
