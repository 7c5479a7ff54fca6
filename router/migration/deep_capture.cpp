// Deep capture as operators see it: installed on both sides, listed, removed without a trace.

#include "router/capture/deep_capture.hpp"

#include "router/migration/control_impl.hpp"
#include "router/sync/recovery.hpp"

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr auto removal_patience = 10s;

boost::json::object to_json(const CaptureState& state) {
    boost::json::array tables;
    for (const CaptureTable& table : state.tables) {
        tables.push_back({{"name", table.name},
                          {"installed", table.installed},
                          {"reason", table.reason}});
    }
    return {{"present", state.present},
            {"rows_left", state.rows_left},
            {"tables", std::move(tables)}};
}

boost::json::object error_json(const Error& error) {
    return {{"present", nullptr}, {"error", error.message}, {"tables", boost::json::array()}};
}

}  // namespace

boost::json::object Control::capture() {
    Core& core = impl_->core;
    boost::json::object json = {{"enabled", core.deep_capture()}};
    for (const Side side : {Side::source, Side::target}) {
        auto connection = Connection::open(core.endpoint(side), "banyan-capture");
        auto state = connection ? read_capture(*connection, core.capture_options())
                                : Result<CaptureState>(connection.error());
        json[to_string(side)] = state ? to_json(*state) : error_json(state.error());
    }
    return json;
}

Answer<boost::json::object> Control::install_capture(const Actor& actor) {
    Core& core = impl_->core;
    const auto refused = [&](Side side, const Error& error) {
        impl_->audit(actor, "capture.install", "", "", nullptr, nullptr, error.message);
        return impl_->refuse(409, "capture-failed",
                             "On the " + std::string(to_string(side)) +
                                 " it could not be installed: " + error.message);
    };
    for (const Side side : {Side::source, Side::target}) {
        auto connection = Connection::open(core.endpoint(side), "banyan-capture");
        if (!connection) {
            return refused(side, connection.error());
        }
        auto state = router::install_capture(*connection, core.capture_options());
        if (!state) {
            return refused(side, state.error());
        }
    }
    core.set_deep_capture(true);
    impl_->audit(actor, "capture.install", "", "", nullptr, nullptr, "ok");
    if (mirrors(core.phase())) {
        impl_->workers.load_catalog_once();
    }
    return capture();
}

// First no new transaction uses it, then those that do have ended, then it goes.
Answer<boost::json::object> Control::remove_capture(const Actor& actor) {
    Core& core = impl_->core;
    core.set_deep_capture(false);
    const auto refused = [&](Side side, const Error& error) {
        impl_->audit(actor, "capture.remove", "", "", nullptr, nullptr, error.message);
        return impl_->refuse(409, "capture-failed",
                             "It is not used any more, but on the " +
                                 std::string(to_string(side)) +
                                 " it could not be removed yet (try again): " + error.message);
    };
    if (mirrors(core.phase()) && !impl_->workers.load_catalog_once()) {
        return refused(primary_of(core.phase()), Error{core.catalog_error(), ""});
    }
    for (const Side side : {Side::source, Side::target}) {
        auto connection = Connection::open(core.endpoint(side), "banyan-capture");
        if (!connection) {
            return refused(side, connection.error());
        }
        std::string since;
        auto gone = wait_for_older_transactions(*connection, removal_patience, since);
        if (gone) {
            gone = router::remove_capture(*connection, core.capture_options());
        }
        if (!gone) {
            return refused(side, gone.error());
        }
    }
    impl_->audit(actor, "capture.remove", "", "", nullptr, nullptr, "ok");
    return capture();
}

}  // namespace banyan::router
