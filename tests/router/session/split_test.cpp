// The same conversation gives the same bytes on all three connections however it is cut, Flush
// aside: when to ask for answers depends on when the questions came.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;

struct Case {
    const char* name;
    Phase phase;
    std::string client;
};

const std::vector<Case>& conversations() {
    static const std::string returning = "INSERT INTO item VALUES ($1) RETURNING id";
    static const std::vector<Case> all = {
        {"a simple insert and a read", Phase::dual_write,
         query("INSERT INTO item VALUES (7)") + query("SELECT id FROM item")},
        {"a block with a savepoint", Phase::dual_write,
         query("BEGIN") + query("SAVEPOINT a") + query("INSERT INTO item VALUES (7)") +
             query("ROLLBACK TO a") + query("DELETE FROM item") + query("COMMIT")},
        {"a script with an error", Phase::dual_write,
         query("INSERT INTO item VALUES (7); SELECT id FROM item; SELECT bad") +
             query("SELECT id FROM item")},
        {"a pipeline", Phase::dual_write,
         parse("s", returning) + describe('S', "s") + bind_portal("p", "s", {"7"}) +
             describe('P', "p") + execute("p") + sync() + bind_portal("p", "s", {"8"}) +
             execute("p", 1) + execute("p") + sync() + query("SELECT id FROM item")},
        {"a pipeline with an error", Phase::dual_write,
         run("INSERT INTO item VALUES (7)") + run("SELECT bad") + run("INSERT INTO item VALUES (8)") +
             sync() + run("INSERT INTO item VALUES (9)") + sync()},
        {"copy in", Phase::dual_write,
         run("COPY item FROM STDIN") + sync() + raw('d', "7\n") + raw('d', "8\n") + raw('c') +
             sync() + query("COPY item FROM STDIN") + raw('d', "9\n") + raw('c') +
             query("SELECT id FROM item")},
        {"shadow reads", Phase::dual_read,
         query("SELECT id FROM item") + run("SELECT id FROM item") + sync() +
             query("INSERT INTO item VALUES (7)") + query("SELECT id FROM item")},
    };
    return all;
}

struct Outcome {
    std::string client;
    Lines source;
    Lines target;
    Lines finished;
};

template <class Feed>
Outcome outcome(const Case& each, Feed feed) {
    Scene scene(each.phase, true);
    for (const Side side : {Side::source, Side::target}) {
        auto& server = scene.server(side);
        server.on("FROM item", Reply({"id"}, {{"1"}, {std::nullopt}}));
        server.on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", "b"}}));
        server.on("RETURNING id", Reply({"id", "id", "name", "odd"}, {{"7", "7", "a", "b"}}));
        server.on("DELETE FROM item", Reply({"id"}, {{"7"}}));
        server.on("COPY item", copy_in());
        server.on("COPY \"public\".\"item\"", copy_in());
        server.on("bad", refusal("42601", 8));
    }
    scene.log_in();
    const auto before = scene.client_total().size();
    feed(scene, each.client);
    Outcome result;
    result.client = scene.client_total().substr(before);
    result.source = scene.source.log();
    std::erase(result.source, "Flush");
    for (auto& line : scene.target.log()) {
        const bool goes_on = line.starts_with("CopyData ") && !result.target.empty() &&
                             result.target.back().starts_with("CopyData ");
        if (goes_on) {
            result.target.back() += line.substr(9);  // its copy data may be cut elsewhere
        } else {
            result.target.push_back(std::move(line));
        }
    }
    for (const auto& event : scene.events) {
        if (event.starts_with("finish")) {
            result.finished.push_back(event);
        }
    }
    EXPECT_TRUE(scene.machine.logged_in()) << each.name;
    return result;
}

/// One request after the other, as a client that waits for its answers.
Outcome expected(const Case& each) {
    return outcome(each, [](Scene& scene, std::string_view bytes) { scene.send(bytes); });
}

void compare(const Outcome& got, const Outcome& wanted) {
    std::string left = got.client;
    std::string right = wanted.client;
    EXPECT_EQ(take_messages(left, backend_text), take_messages(right, backend_text));
    EXPECT_EQ(got.client, wanted.client);
    EXPECT_EQ(got.source, wanted.source);
    EXPECT_EQ(got.target, wanted.target);
    EXPECT_EQ(got.finished, wanted.finished);
}

TEST(Split, TheClientsBytesMayBeCutAnywhere) {
    for (const auto& each : conversations()) {
        const auto wanted = expected(each);
        EXPECT_EQ(wanted.client.substr(wanted.client.size() - 6), "Z\0\0\0\5I"s) << each.name;
        for (std::size_t split = 0; split < each.client.size(); ++split) {
            SCOPED_TRACE(each.name + " cut at "s + std::to_string(split));
            compare(outcome(each,
                            [&](Scene& scene, std::string_view bytes) {
                                scene.send(bytes.substr(0, split));
                                scene.send(bytes.substr(split));
                            }),
                    wanted);
            ASSERT_FALSE(::testing::Test::HasFailure());
        }
    }
}

TEST(Split, TheServersBytesMayComeInPiecesOfAnySize) {
    for (const auto& each : conversations()) {
        const auto wanted = expected(each);
        for (std::size_t size = 1; size < 40; ++size) {
            SCOPED_TRACE(each.name + " in pieces of "s + std::to_string(size));
            compare(outcome(each,
                            [&](Scene& scene, std::string_view bytes) {
                                scene.server_chunk = size;
                                scene.send(bytes);
                            }),
                    wanted);
            ASSERT_FALSE(::testing::Test::HasFailure());
        }
    }
}

TEST(Split, EverythingByteByByte) {
    for (const auto& each : conversations()) {
        SCOPED_TRACE(each.name);
        compare(outcome(each,
                        [](Scene& scene, std::string_view bytes) {
                            scene.client_chunk = scene.server_chunk = 1;
                            scene.send(bytes);
                        }),
                expected(each));
    }
}

}  // namespace
}  // namespace banyan::test
