// One handler for each route; see routes.cpp for the table and router/migration/README.md for the
// JSON. A list is answered as an object with one array named as the resource.
#pragma once

#include "admin/routes.hpp"

namespace banyan::admin::handlers {

Response livez(Context&);
Response readyz(Context&);
Response metrics(Context&);

Response status(Context&);
Response phase(Context&);
Response gates(Context&);
Response transitions(Context&);
Response transition(Context&);
Response create_transition(Context&);
Response cancel_transition(Context&);

Response tables(Context&);
Response table(Context&);
Response capture(Context&);
Response install_capture(Context&);
Response remove_capture(Context&);
Response backfill(Context&);
Response backfill_action(Context&);
Response verifications(Context&);
Response verification(Context&);
Response create_verification(Context&);
Response stop_verification(Context&);

Response discrepancies(Context&);
Response discrepancy(Context&);
Response acknowledge_discrepancy(Context&);
Response shadow(Context&);
Response shadow_times(Context&);
Response set_shadow(Context&);
Response journal(Context&);
Response sessions(Context&);
Response audit(Context&);
Response check_audit(Context&);
Response preflight(Context&);
Response configuration(Context&);
Response identity(Context&);
Response events(Context&);
Response openapi(Context&);
Response reload(Context&);

}  // namespace banyan::admin::handlers
