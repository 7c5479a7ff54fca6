// Which programs the model's clients run.

#include "tests/races/race_model.hpp"

namespace banyan::races {
namespace {

constexpr Op upsert0{OpKind::upsert, 0};
constexpr Op update0{OpKind::update, 0};
constexpr Op remove0{OpKind::remove, 0};
constexpr Op upsert1{OpKind::upsert, 1};
constexpr Op update1{OpKind::update, 1};
constexpr Op remove1{OpKind::remove, 1};
constexpr Op copy0{OpKind::copy, 0};
constexpr Op copy1{OpKind::copy, 1};
constexpr Op truncate1{OpKind::truncate, 1};

}  // namespace

std::vector<Scenario> scenarios(bool thorough) {
    std::vector<Scenario> all;
    // Every pair of statements, from every beginning.
    const std::vector<Op> ops = {upsert0, update0, remove0, upsert1, update1, remove1,
                                 copy0,   copy1,   truncate1};
    const std::array<std::array<bool, keys>, 3> beginnings = {
        {{false, false}, {true, false}, {true, true}}};
    for (const auto& beginning : beginnings) {
        for (std::size_t a = 0; a < ops.size(); ++a) {
            for (std::size_t b = a; b < ops.size(); ++b) {
                all.push_back({{Program{{ops[a]}}, Program{{ops[b]}}}, beginning, true, true});
            }
        }
    }
    // Transactions of two statements that cross; and one transaction after the other, the later one
    // perhaps on the other primary.
    const std::vector<std::array<Program, clients>> longer = {
        {Program{{upsert0, upsert1}}, Program{{remove0}}},
        {Program{{upsert0, remove0}}, Program{{upsert0}}},
        {Program{{upsert0, upsert1}}, Program{{upsert1, upsert0}}},
        {Program{{upsert0}, {remove0}}, Program{{upsert0}}},
        {Program{{upsert0}, {upsert1}}, Program{{remove0}}},
        {Program{{remove0}, {upsert0}}, Program{{update0}}},
        {Program{{remove0}, {copy0}}, Program{{upsert0}}},
        {Program{{copy0, copy1}}, Program{{remove0}}},
        {Program{{copy0, remove0}}, Program{{copy0}}},
        {Program{{truncate1, copy1}}, Program{{upsert1}}},
        {Program{{copy1}, {truncate1}}, Program{{remove1}}},
    };
    for (const auto& beginning : beginnings) {
        for (const auto& programs : longer) {
            all.push_back({programs, beginning, true, thorough});
            if (!thorough && beginning[1]) {
                break;
            }
        }
    }
    return all;
}

std::string describe(const Scenario& scenario) {
    std::string text;
    for (const auto& program : scenario.programs) {
        text += text.empty() ? "" : " | ";
        for (std::size_t t = 0; t < program.size(); ++t) {
            text += t == 0 ? "" : "; ";
            for (const auto& op : program[t]) {
                text += op.kind == OpKind::upsert   ? "upsert"
                        : op.kind == OpKind::copy   ? "copy"
                        : op.kind == OpKind::truncate ? "truncate"
                        : op.kind == OpKind::update ? "update"
                                                    : "remove";
                text += std::to_string(op.key) + " ";
            }
        }
    }
    text += std::string("from ") + (scenario.on_source[0] ? "parent" : "nothing") +
            (scenario.on_source[1] ? " and child" : "");
    return text + (scenario.flips ? ", flip" : "") + (scenario.crashes ? ", crash" : "");
}

}  // namespace banyan::races
