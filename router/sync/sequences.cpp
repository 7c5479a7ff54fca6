#include "router/sync/sequences.hpp"

#include <algorithm>
#include <limits>
#include <map>

#include "router/catalog/catalog.hpp"

namespace banyan::router {
namespace {

struct Sequence {
    std::string sql_name;
    std::int64_t increment = 1;
    std::int64_t minimum = 0;
    std::int64_t maximum = 0;
    std::int64_t last = 0;
    bool called = false;  ///< false: `last` itself has not been handed out yet
};

using Sequences = std::map<std::string, Sequence>;  // by "schema.name"

// The sequence's own row, not pg_sequences.last_value: that one is NULL both for "never called" and
// for "not allowed to look".
Result<void> read_values(Connection& connection, Sequences& sequences) {
    constexpr int batch = 200;  // PostgreSQL nests UNION ALL, one level for each branch
    std::string sql;
    int pending = 0;
    auto flush = [&]() -> Result<void> {
        auto rows = connection.exec(sql);
        if (!rows) {
            return std::move(rows).error();
        }
        for (int row = 0; row < rows->size(); ++row) {
            Sequence& sequence = sequences[rows->text(row, 0)];
            sequence.last = rows->number(row, 1);
            sequence.called = rows->truth(row, 2);
        }
        sql.clear();
        pending = 0;
        return {};
    };
    for (const auto& [name, sequence] : sequences) {
        sql += pending == 0 ? "" : " UNION ALL ";
        sql += "SELECT " + quote_literal(name) + ", last_value, is_called FROM " +
               sequence.sql_name;
        if (++pending == batch) {
            BANYAN_TRY(flush());
        }
    }
    return pending == 0 ? Result<void>{} : flush();
}

Result<Sequences> read_sequences(Connection& connection) {
    auto rows = connection.exec(
        "SELECT n.nspname, c.relname, s.seqincrement, s.seqmin, s.seqmax"
        " FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'banyan')");
    if (!rows) {
        return std::move(rows).error();
    }
    Sequences sequences;
    for (int row = 0; row < rows->size(); ++row) {
        Sequence sequence;
        sequence.sql_name = quote_identifier(rows->view(row, 0)) + "." +
                            quote_identifier(rows->view(row, 1));
        sequence.increment = rows->number(row, 2);
        sequence.minimum = rows->number(row, 3);
        sequence.maximum = rows->number(row, 4);
        sequences.emplace(rows->text(row, 0) + "." + rows->text(row, 1), std::move(sequence));
    }
    if (auto values = read_values(connection, sequences); !values) {
        return std::move(values).error();
    }
    return sequences;
}

std::int64_t saturating_add(std::int64_t base, std::int64_t step) {
    std::int64_t sum = 0;
    if (!__builtin_add_overflow(base, step, &sum)) {
        return sum;
    }
    return step < 0 ? std::numeric_limits<std::int64_t>::min()
                    : std::numeric_limits<std::int64_t>::max();
}

std::int64_t saturating_multiply(std::int64_t count, std::int64_t step) {
    std::int64_t product = 0;
    if (!__builtin_mul_overflow(count, step, &product)) {
        return product;
    }
    return (count < 0) == (step < 0) ? std::numeric_limits<std::int64_t>::max()
                                     : std::numeric_limits<std::int64_t>::min();
}

// The value to set on `to`, if it lags.
bool wanted_value(const Sequence& from, const Sequence& to, std::int64_t margin,
                  std::int64_t& wanted) {
    wanted = saturating_add(from.last, saturating_multiply(margin, from.increment));
    wanted = std::clamp(wanted, to.minimum, to.maximum);
    if (wanted == to.last) {
        return !to.called;  // its next value would be `wanted` itself
    }
    return from.increment > 0 ? wanted > to.last : wanted < to.last;
}

}  // namespace

Result<std::vector<SequenceAdvance>> advance_sequences(Connection& from, Connection& to,
                                                       std::int64_t margin,
                                                       const SequenceTwins& twins) {
    auto wanted_by = read_sequences(from);
    if (!wanted_by) {
        return std::move(wanted_by).error();
    }
    auto present = read_sequences(to);
    if (!present) {
        return std::move(present).error();
    }
    std::string missing;
    std::string values;
    std::vector<SequenceAdvance> advances;
    for (const auto& [name, sequence] : *wanted_by) {
        const auto renamed = twins.find(name);
        const auto twin = present->find(renamed == twins.end() ? name : renamed->second);
        if (twin == present->end()) {
            missing += (missing.empty() ? "" : ", ") + name;
            continue;
        }
        std::int64_t value = 0;
        if (!wanted_value(sequence, twin->second, margin, value)) {
            continue;
        }
        values += (values.empty() ? "(" : ", (") + quote_literal(twin->second.sql_name) +
                  "::pg_catalog.regclass, " + quote_literal(std::to_string(value)) +
                  "::pg_catalog.int8)";
        advances.push_back({name, twin->second.last, value});
    }
    if (!missing.empty()) {
        return Error{"sequences missing on the other side: " + missing +
                         "; create them there, or drop them here if nothing uses them",
                     ""};
    }
    if (advances.empty()) {
        return advances;
    }
    const std::string sql = "SELECT pg_catalog.setval(v.sequence, v.value, true) FROM (VALUES " +
                            values + ") AS v(sequence, value)";
    if (auto set = to.exec(sql); !set) {
        return std::move(set).error();
    }
    return advances;
}

}  // namespace banyan::router
