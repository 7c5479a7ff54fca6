// The session machine between a client, two fake servers, a clock and an operator, all of them
// random. Whatever happens, nothing crashes; as long as nobody talks nonsense the session comes to rest
// once everybody answers again; and once everybody is gone it is over, and each of its journal entries
// has had exactly one end: finish() or lose().
#include <cstdio>
#include <cstdlib>
#include <map>

#include "tests/fuzz/input.hpp"
#include "tests/router/session/scene.hpp"

namespace banyan::test {
namespace {

const std::vector<std::string>& requests() {
    static const std::string returning = "INSERT INTO item VALUES ($1) RETURNING id";
    static const std::vector<std::string> all = {
        query("BEGIN"), query("COMMIT"), query("ROLLBACK"), query("SAVEPOINT a"),
        query("ROLLBACK TO a"), query("RELEASE a"), query("INSERT INTO item VALUES (7)"),
        query("DELETE FROM item"), query("SELECT id FROM item"), query("SELECT bad"),
        query("INSERT INTO item VALUES (7); SELECT bad"), query("SELECT user_volatile()"),
        query("COPY item FROM STDIN"), query("SET a.b = c"), query("CREATE TABLE made (id int)"),
        query("UPDATE pair SET v = 1"), query("DELETE FROM parent WHERE id = 1"), query("("),
        parse("", "INSERT INTO item VALUES ($1)"), parse("s", returning), parse("s", "SELECT bad"),
        parse("", "COPY item FROM STDIN"), parse("", "COMMIT"), parse("", "BEGIN"),
        bind_portal("", "", {"7"}), bind_portal("p", "s", {"7"}), describe('S', "s"),
        describe('P', "p"), execute(), execute("p", 1), execute("p"), close('S', "s"),
        close('P', "p"), sync(), flush(), raw('d', "7\n"), raw('c'), raw('f', std::string(1, '\0')),
        raw('F', "\0\0"), raw('X')};
    return all;
}

void prepare(FakeServer& server) {
    server.on("FROM item", Reply({"id"}, {{"1"}}));
    server.on("INSERT INTO item", Reply({"id", "name", "odd"}, {{"7", "a", std::nullopt}}));
    server.on("RETURNING id", Reply({"id", "id", "name", "odd"}, {{"7", "7", "a", "b"},
                                                                  {"8", "8", "a", "b"}}));
    server.on("DELETE FROM item", Reply({"id"}, {{"7"}}));
    server.on("UPDATE pair", Reply({"a", "b", "v"}, {{"1", "2", "3"}}));
    server.on("COPY item", copy_in());
    server.on("COPY \"public\".\"item\"", copy_in());
    server.on("bad", refusal("42601", 8));
}

void act(Scene& scene, Input& input, std::uint64_t& epoch, bool& nonsense) {
    const Side side = input.yes() ? Side::source : Side::target;
    switch (input.number(40)) {
        case 0:
            nonsense = true;
            scene.send(input.text(20));
            break;
        case 1:
            nonsense = true;
            scene.server_says(side, input.text(20));
            break;
        case 2:
            scene.server(side).hangs = true;
            break;
        case 3:
            scene.resume(side);
            break;
        case 4:
            scene.journal_answers = !scene.journal_answers;
            scene.answer_journal(input.yes());
            break;
        case 5: {
            const auto kind = static_cast<Deadline>(
                input.number(static_cast<std::size_t>(Deadline::count_) - 1));
            if (scene.port.deadlines.contains(kind)) {
                scene.deadline(kind);
            }
            break;
        }
        case 6:
            if (!scene.port.closed.contains(side)) {
                scene.port.closed.insert(side);
                scene.lose_server(side);
            }
            break;
        case 7: {
            auto wanted = directive(++epoch, static_cast<Phase>(input.number(4)),
                                    input.yes());
            scene.direct(wanted);
            break;
        }
        case 8:
            scene.server(side).commit_error = "23503";
            break;
        case 9:
            scene.port.current =
                std::make_shared<const router::Catalog>(ScriptedPort::versioned(++epoch));
            scene.give([&] { scene.machine.poll(); });
            scene.settle();
            break;
        case 10:
            scene.client_chunk = scene.server_chunk = 1 + input.number(63);
            break;
        default:
            scene.send(requests()[input.number(requests().size() - 1)]);
    }
}

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

/// Everybody answers again, and the client ends what it has begun.
void come_to_rest(Scene& scene, std::uint64_t epoch) {
    scene.server_chunk = scene.client_chunk = std::string::npos;
    scene.journal_answers = true;
    scene.resume(Side::source);
    scene.resume(Side::target);
    scene.port.current =
        std::make_shared<const router::Catalog>(ScriptedPort::versioned(epoch + 1));
    scene.direct(directive(epoch + 2, scene.machine.phase()));
    scene.send(raw('c') + sync() + query("ROLLBACK"));
    for (int round = 0; round < 100; ++round) {
        for (int kind = 0; kind < static_cast<int>(Deadline::count_); ++kind) {
            if (scene.port.deadlines.contains(static_cast<Deadline>(kind))) {
                scene.deadline(static_cast<Deadline>(kind));
            }
        }
    }
    if (scene.machine.logged_in() && scene.machine.in_transaction()) {
        for (const auto& event : scene.events) {
            std::fprintf(stderr, "%s\n", event.c_str());
        }
        std::abort();
    }
}

void run_session(Input& input) {
    std::uint64_t epoch = 1;
    Scene scene(static_cast<Phase>(input.number(4)), true);
    prepare(scene.source);
    prepare(scene.target);
    if (input.number(15) != 0) {
        scene.send(startup());
    }
    bool nonsense = false;
    for (int i = 0; i < 60 && input.left() > 0; ++i) {
        act(scene, input, epoch, nonsense);
    }
    if (!nonsense) {
        come_to_rest(scene, epoch);
    }
    // Everybody goes.
    scene.close_client();
    scene.lose_server(Side::source);
    scene.lose_server(Side::target);
    scene.answer_journal(true);
    for (int kind = 0; kind < static_cast<int>(Deadline::count_); ++kind) {
        scene.deadline(static_cast<Deadline>(kind));
    }
    require(scene.port.over);
    std::map<std::string, int> ends;
    for (const auto& [txn, outcome] : scene.port.finished) {
        ++ends[std::to_string(txn)];
    }
    for (const auto& line : scene.port.lost) {
        ++ends[line.substr(5, line.find(' ', 5) - 5)];
    }
    require(ends.size() == scene.port.intents.size());
    for (const auto& [txn, count] : ends) {
        require(count == 1);
    }
}

}  // namespace
}  // namespace banyan::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    banyan::test::Input input(data, size);
    banyan::test::run_session(input);
    return 0;
}
