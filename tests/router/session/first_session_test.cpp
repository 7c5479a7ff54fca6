#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include "scene.hpp"
namespace banyan::test {
TEST(X, y) {
    Scene s(Phase::dual_write);
    s.log_in();
    s.source.on("INSERT INTO item", Reply({"id","name","odd"}, {{"1","2","3"}}));
    s.send(query("INSERT INTO item VALUES (1,2,3)"));
    for (auto& e : s.events) std::cout << e << "\n";
    s.forget();
    s.send(run("INSERT INTO item VALUES (1,2,3)") + sync());
    for (auto& e : s.events) std::cout << e << "\n";
}
}
