#include "router/preflight/drift.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <initializer_list>

namespace banyan::router {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

boost::json::array objects(std::initializer_list<std::array<const char*, 3>> all) {
    boost::json::array array;
    for (const auto& [kind, name, definition] : all) {
        array.push_back(boost::json::object{
            {"kind", kind}, {"name", name}, {"definition", definition}});
    }
    return array;
}

std::vector<std::string> found(const boost::json::array& source, const boost::json::array& target,
                               const std::set<std::string>& left_out = {}) {
    std::vector<std::string> lines;
    for (const auto& it : schema_drift(source, target, left_out)) {
        const char* what = it.what == Drift::What::only_on_source   ? " only_on_source"
                           : it.what == Drift::What::only_on_target ? " only_on_target"
                                                                    : " differs";
        lines.push_back(it.kind + " " + it.name + what);
    }
    return lines;
}

TEST(Drift, equal_schemas_in_another_order_do_not_drift) {
    EXPECT_THAT(found(objects({{"table", "a.t", ""}, {"index", "a.i", "x"}}),
                      objects({{"index", "a.i", "x"}, {"table", "a.t", ""}})),
                IsEmpty());
}

TEST(Drift, what_is_missing_on_either_side_and_what_differs_is_listed_by_kind_and_name) {
    const auto source = objects({{"table", "a.t", ""},
                                 {"column", "a.t.x", "integer"},
                                 {"column", "a.t.y", "text"},
                                 {"index", "a.i", "(x)"}});
    const auto target = objects({{"table", "a.t", ""},
                                 {"column", "a.t.x", "bigint"},
                                 {"column", "a.t.z", "text"},
                                 {"index", "a.i", "(x)"}});
    EXPECT_THAT(found(source, target),
                ElementsAre("column a.t.x differs", "column a.t.y only_on_source",
                            "column a.t.z only_on_target"));
}

TEST(Drift, what_belongs_to_a_missing_table_is_not_listed_beside_it) {
    const auto source = objects({{"table", "a.t", ""},
                                 {"column", "a.t.x", "integer"},
                                 {"constraint", "a.t.t_pkey", "PRIMARY KEY (x)"},
                                 {"function", "a.t.f()", ""}});
    EXPECT_THAT(found(source, {}), ElementsAre("function a.t.f() only_on_source",
                                               "table a.t only_on_source"));
    EXPECT_THAT(found({}, source), ElementsAre("function a.t.f() only_on_target",
                                               "table a.t only_on_target"));
}

TEST(Drift, what_is_left_out_is_left_out_with_all_that_belongs_to_it) {
    const auto source = objects({{"table", "a.t", ""},
                                 {"column", "a.t.x", "integer"},
                                 {"table", "a.t2", ""},
                                 {"column", "a.t2.x", "integer"}});
    const auto target = objects({{"table", "a.t2", ""}});
    EXPECT_THAT(found(source, target, {"a.t"}), ElementsAre("column a.t2.x only_on_source"));
}

TEST(Drift, names_with_dots_are_whole_names) {
    const auto source = objects({{"table", "a.b.c", ""}, {"column", "a.b.c.d", "integer"}});
    EXPECT_THAT(found(source, {}, {"a.b.c"}), IsEmpty());
    EXPECT_THAT(found(source, {}), ElementsAre("table a.b.c only_on_source"));
}

}  // namespace
}  // namespace banyan::router
