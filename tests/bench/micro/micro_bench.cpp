// What the parts of the hot path cost by themselves: relaying a message, classifying a statement
// that was seen before and one that was not, digesting a result, journaling a commit.
//   cmake --build --preset release --target micro_bench && build/release/tests/micro_bench
#include <benchmark/benchmark.h>

#include <future>

#include "router/shadow/digest.hpp"
#include "router/sql/statement.hpp"
#include "router/state/ledger.hpp"
#include "router/state/state_db.hpp"
#include "tests/router/session/scene.hpp"
#include "tests/router/state/temp_directory.hpp"

namespace banyan {
namespace {

using test::bind_portal;
using test::execute;
using test::query;
using test::sync;

// --- decode and route: the session machine, without sockets ---

void relay(benchmark::State& state, const std::string& request, router::Phase phase) {
    test::Lines events;
    test::FakeServer server("direct", 11, events);
    server.on("FROM t", test::Reply({"a"}, {{"one"}}));
    server.receive(test::startup());
    server.receive(test::parse("s", "SELECT a FROM t") + sync());
    server.take();
    server.receive(request);
    const std::string answer = server.take();

    test::Scene scene(phase);
    scene.source.on("FROM t", test::Reply({"a"}, {{"one"}}));
    scene.log_in();
    scene.send(test::parse("s", "SELECT a FROM t") + sync());
    scene.forget();
    auto& machine = scene.machine;
    for (auto _ : state) {
        machine.client_bytes(request);
        benchmark::DoNotOptimize(machine.to_server(router::Side::source).data());
        machine.to_server(router::Side::source).clear();
        machine.server_bytes(router::Side::source, answer);
        benchmark::DoNotOptimize(machine.to_client().data());
        machine.to_client().clear();
    }
    state.SetBytesProcessed(state.iterations() *
                            static_cast<std::int64_t>(request.size() + answer.size()));
    state.SetItemsProcessed(state.iterations());
}

void relay_simple_initial(benchmark::State& state) {
    relay(state, query("SELECT a FROM t"), router::Phase::initial);
}
void relay_prepared_initial(benchmark::State& state) {
    relay(state, bind_portal("", "s") + execute("") + sync(), router::Phase::initial);
}
void relay_prepared_dual_write(benchmark::State& state) {
    relay(state, bind_portal("", "s") + execute("") + sync(), router::Phase::dual_write);
}
BENCHMARK(relay_simple_initial);
BENCHMARK(relay_prepared_initial)->ThreadRange(1, 2)->UseRealTime();  // nothing is shared between loops
BENCHMARK(relay_prepared_dual_write)->ThreadRange(1, 2)->UseRealTime();

// --- classify ---

constexpr std::string_view texts[] = {
    "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
    "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
    "INSERT INTO orders (customer, total, placed) SELECT c.id, sum(l.price * l.quantity), now() FROM customers "
    "c JOIN cart_lines l ON l.customer = c.id WHERE c.id = $1 AND NOT EXISTS (SELECT FROM orders o WHERE "
    "o.customer = c.id AND o.placed > now() - interval '1 minute') GROUP BY c.id RETURNING id"};

void classify_miss(benchmark::State& state) {
    const auto text = texts[state.range(0)];
    for (auto _ : state) {
        benchmark::DoNotOptimize(router::parse_query(text));
    }
}
BENCHMARK(classify_miss)->DenseRange(0, 2);

// --- digest ---

void digest(benchmark::State& state) {
    const std::string row(static_cast<std::size_t>(state.range(0)), 'x');
    router::Digest it;
    for (auto _ : state) {
        it.add_row(row);
    }
    benchmark::DoNotOptimize(it.rows());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(digest)->Arg(32)->Arg(256)->Arg(8192);

// --- journal: a commit of so many rows, by so many sessions at once, to disk and cleared ---

void journal(benchmark::State& state) {
    const test::TempDirectory directory;
    auto db = router::StateDb::open(directory.path(), router::StateDb::Durability::process);
    router::Ledger ledger(**db);
    const auto rows = state.range(0);
    const auto sessions = state.range(1);
    std::int64_t next = 0;
    for (auto _ : state) {
        std::vector<std::pair<router::TxnId, std::future<bool>>> waiting;
        for (std::int64_t session = 0; session < sessions; ++session) {
            router::CommitIntent intent;
            for (std::int64_t row = 0; row < rows; ++row) {
                router::RowKey key{1, {}};
                router::append_key_column(key.bytes, std::to_string(next++));
                intent.writes.push_back({std::move(key), false, false});
            }
            auto answered = std::make_shared<std::promise<bool>>();
            auto future = answered->get_future();
            const auto txn = ledger.begin_commit(
                std::move(intent), [answered](bool durable) { answered->set_value(durable); });
            waiting.emplace_back(txn, std::move(future));
        }
        for (auto& [txn, durable] : waiting) {
            durable.get();
            ledger.finish(txn, router::CommitOutcome::mirrored);
        }
    }
    state.SetItemsProcessed(state.iterations() * sessions);
}
BENCHMARK(journal)->Args({1, 1})->Args({1, 8})->Args({4, 8})->Args({100, 1})->UseRealTime();

}  // namespace
}  // namespace banyan

BENCHMARK_MAIN();
