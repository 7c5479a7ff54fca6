// A schema with mapped tables, for tests without a server: "shown" has another name, an expression and a
// filter; "split" goes to two tables; "joined" is what such a split looks like turned round.
#pragma once

#include "tests/router/sql/sample_catalog.hpp"

namespace banyan::router {

inline std::shared_ptr<Table> mapped(Table from, Table to, std::vector<RowExpression> values,
                                     const std::string& name) {
    auto mapping = std::make_shared<Mapping>();
    mapping->name = name;
    to.id = from.id;
    mapping->mirror = std::make_shared<Table>(std::move(to));
    mapping->values = std::move(values);
    from.mapping = std::move(mapping);
    return std::make_shared<Table>(std::move(from));
}

inline RowExpression plain_value(const std::string& name) {
    return {quote_identifier(name), {name}, true};
}

inline Catalog mapped_catalog() {
    Catalog catalog;
    auto shown = mapped(table(300, "shown", {"id", "v", "kind"}), table(0, "seen", {"key", "double"}),
                        {plain_value("id"), {"(v * 2)", {"v"}, false}}, "public.shown->public.seen");
    auto filtered = std::make_shared<Mapping>(*shown->mapping);
    filtered->passes = RowExpression{"(kind > 0)", {"kind"}, false};
    shown->mapping = filtered;
    auto split = mapped(table(310, "split", {"id", "a", "b"}), table(0, "part_a", {"id", "a"}),
                        {plain_value("id"), plain_value("a")}, "public.split->public.part_a");
    Table second = table(310, "split", {"id", "a", "b"});
    second.id = 311;
    auto other = mapped(second, table(0, "part_b", {"n", "b"}), {plain_value("id"), plain_value("b")},
                        "public.split->public.part_b");
    split->siblings = {other};
    auto joined = mapped(table(320, "joined", {"id", "a"}), table(0, "whole", {"id", "a", "b"}), {},
                         "public.whole->public.joined");
    auto combined = std::make_shared<Mapping>(*joined->mapping);
    combined->combined = "SELECT 1";
    joined->mapping = combined;
    auto kept = mapped(table(330, "kept", {"id", "v"}), table(0, "store", {"id", "v"}),
                       {plain_value("id"), plain_value("v")}, "public.store->public.kept");
    auto partial = std::make_shared<Mapping>(*kept->mapping);
    partial->belongs = RowExpression{"(v > 0)", {"v"}, false};
    kept->mapping = partial;
    Table parent = table(340, "owner", {"id"});
    parent.cascades = {cascade(310, {"a"}, {"id"}, ReferentialAction::cascade, ReferentialAction::none)};
    for (const auto& each : {shown, split, other, joined, kept, std::make_shared<Table>(parent),
                             std::make_shared<Table>(table(350, "usual", {"id", "v"}))}) {
        catalog.add_table(each);
        catalog.grant_select("app", each->oid);
    }
    return catalog;
}

}  // namespace banyan::router
