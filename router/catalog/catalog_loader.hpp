// Reads the two databases' catalogues into Catalog, on Banyan's own connections.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "router/catalog/catalog.hpp"
#include "router/pg/connection.hpp"
#include "router/state/state_db.hpp"

namespace banyan::router {

struct CatalogOptions {
    std::vector<std::string> exclude;  ///< "schema.table" names left out
    std::vector<std::string> roles;    ///< roles whose SELECT privileges are looked up; empty: all
                                       ///< roles that can log in
    bool deep_capture = false;         ///< use its triggers where they are
    std::vector<MappingRule> mappings{};
};

/// Reads `primary`'s catalogue; a table missing on `mirror`, or without the same columns and an
/// equal key there, is kept with its reason ("not_on_mirror", "columns_differ", "key_differs").
/// Mapped tables follow their rules; what is wrong with one is in Catalog::mapping_problems, and its
/// table has the reason "bad_mapping" ("no_reverse": it cannot be turned round, and the target is
/// primary). Their expressions are tried in temporary tables, in transactions that are rolled back.
/// pg_catalog, information_schema, pg_toast, pg_temp* and the schema "banyan" are left out.
Result<std::shared_ptr<const Catalog>> load_catalog(Connection& primary, Connection& mirror,
                                                    Side primary_side, StateDb& db,
                                                    const CatalogOptions& options,
                                                    std::uint64_t version);

}  // namespace banyan::router
