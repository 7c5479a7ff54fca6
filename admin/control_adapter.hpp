// router::Control behind the ControlApi interface. `control` outlives the adapter.
#pragma once

#include <memory>

#include "admin/control_api.hpp"

namespace banyan::admin {

std::unique_ptr<ControlApi> adapt(router::Control& control);

}  // namespace banyan::admin
