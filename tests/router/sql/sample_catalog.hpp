// A small schema for the tests of capture: tables, keys, foreign keys and things in the way.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "router/catalog/catalog.hpp"

namespace banyan::router {

inline Column column(std::string name) {
    Column result;
    result.name = std::move(name);
    result.type = 23;
    result.type_name = "integer";
    result.binary = true;
    result.portable = true;
    return result;
}

inline Table table(Oid oid, std::string name, const std::vector<std::string>& columns,
                   std::vector<std::size_t> key = {0}) {
    Table result;
    result.id = oid;
    result.oid = oid;
    result.schema = "public";
    result.name = std::move(name);
    for (const std::string& each : columns) {
        result.columns.push_back(column(each));
    }
    result.key = std::move(key);
    result.same_columns = true;
    return result;
}

inline Cascade cascade(Oid child, std::vector<std::string> child_columns,
                       std::vector<std::string> parent_columns, ReferentialAction on_delete,
                       ReferentialAction on_update) {
    return Cascade{child, std::move(child_columns), std::move(parent_columns), on_delete,
                   on_update};
}

/// The schema as SQL, for tests on a server; keep in step with sample_catalog().
inline constexpr const char* sample_schema = R"(
CREATE TABLE item (id int PRIMARY KEY, name int, "Odd ""Name" int);
CREATE TABLE pair (a int, b int, v int, PRIMARY KEY (b, a));
CREATE TABLE parent (id int PRIMARY KEY, code int UNIQUE, note int);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE CASCADE, v int);
CREATE TABLE grandchild (id int PRIMARY KEY, child_id int REFERENCES child ON DELETE SET NULL);
CREATE TABLE coded (id int PRIMARY KEY, code int REFERENCES parent (code) ON UPDATE CASCADE);
CREATE TABLE tree (id int PRIMARY KEY, parent_id int REFERENCES tree ON DELETE CASCADE);
CREATE TABLE leafy (id int PRIMARY KEY, tree_id int REFERENCES tree ON DELETE CASCADE);
CREATE TABLE keyed (id int PRIMARY KEY, code int);
CREATE TABLE keyed_child (keyed_id int PRIMARY KEY REFERENCES keyed ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE ring (id int PRIMARY KEY, next_id int REFERENCES ring ON DELETE SET NULL ON UPDATE CASCADE);
)";

inline Catalog sample_catalog() {
    constexpr auto none = ReferentialAction::none;
    constexpr auto set_null = ReferentialAction::set_null;
    std::vector<Table> tables;
    tables.push_back(table(100, "item", {"id", "name", "Odd \"Name"}));
    tables.push_back(table(101, "pair", {"a", "b", "v"}, {1, 0}));
    tables.back().columns[2].omittable = true;
    tables.push_back(table(110, "parent", {"id", "code", "note"}));
    tables.back().cascades = {cascade(111, {"parent_id"}, {"id"}, ReferentialAction::cascade, none),
                              cascade(113, {"code"}, {"code"}, none, ReferentialAction::cascade)};
    tables.push_back(table(111, "child", {"id", "parent_id", "v"}));
    tables.back().cascades = {cascade(112, {"child_id"}, {"id"}, set_null, none)};
    tables.push_back(table(112, "grandchild", {"id", "child_id"}));
    tables.push_back(table(113, "coded", {"id", "code"}));
    tables.push_back(table(120, "tree", {"id", "parent_id"}));
    tables.back().cascades = {cascade(120, {"parent_id"}, {"id"}, ReferentialAction::cascade, none),
                              cascade(121, {"tree_id"}, {"id"}, ReferentialAction::cascade, none)};
    tables.push_back(table(121, "leafy", {"id", "tree_id"}));
    tables.push_back(table(130, "keyed", {"id", "code"}));
    tables.back().cascades = {
        cascade(131, {"keyed_id"}, {"id"}, ReferentialAction::cascade, ReferentialAction::cascade)};
    tables.push_back(table(131, "keyed_child", {"keyed_id"}));
    tables.push_back(table(132, "ring", {"id", "next_id"}));
    tables.back().cascades = {
        cascade(132, {"next_id"}, {"id"}, set_null, ReferentialAction::cascade)};
    tables.push_back(table(140, "generated", {"id", "v", "twice"}));
    tables.back().columns[2].generated = true;
    tables.push_back(table(141, "fragile", {"id", "v", "composite"}));
    tables.back().columns[2].fragile = true;
    tables.push_back(table(142, "keyless", {"v"}, {}));
    tables.back().not_captured_because = "no_key";
    tables.push_back(table(143, "secured", {"id"}));
    tables.back().row_security = true;
    tables.push_back(table(144, "unreadable", {"id"}));
    tables.push_back(table(145, "events", {"id", "at"}, {0, 1}));
    tables.back().partitioned = true;
    tables.push_back(table(146, "keyless_parent", {"id"}));
    tables.back().cascades = {cascade(142, {"v"}, {"id"}, ReferentialAction::cascade, none)};
    tables.push_back(table(150, "ping", {"id", "pong_id"}));
    tables.back().cascades = {cascade(151, {"ping_id"}, {"id"}, ReferentialAction::cascade, none)};
    tables.push_back(table(151, "pong", {"id", "ping_id"}));
    tables.back().cascades = {cascade(150, {"pong_id"}, {"id"}, ReferentialAction::cascade, none)};

    Catalog catalog;
    for (Table& each : tables) {
        if (each.name != "unreadable") {
            catalog.grant_select("app", each.oid);
        }
        catalog.add_table(std::make_shared<const Table>(std::move(each)));
    }
    catalog.add_partition("public", "events_1", 9001, 145);
    catalog.add_other_relation("public", "item_view", 'v');
    catalog.add_other_relation("public", "remote", 'f');
    catalog.add_other_relation("public", "left_out", 'r');
    catalog.add_volatile_function("user_volatile");
    return catalog;
}

}  // namespace banyan::router
