#include "router/migration/gates.hpp"

#include <algorithm>
#include <set>

#include "router/catalog/catalog.hpp"

namespace banyan::router {
namespace {

constexpr std::uint64_t max_dirty = 1000;
/// Banyan's own connections to one side: repair, backfill, verification, probe, control, re-check.
constexpr std::int64_t own_connections = 10;

boost::json::value text(std::string_view words) {
    return boost::json::string(words);
}

Gate verdict(std::string name, bool good, boost::json::value value, boost::json::value threshold,
             std::string why_not, std::string why = {}) {
    Gate gate;
    gate.name = std::move(name);
    gate.verdict = good ? Verdict::pass : Verdict::fail;
    gate.value = std::move(value);
    gate.threshold = std::move(threshold);
    gate.explanation = good ? std::move(why) : std::move(why_not);
    return gate;
}

Gate unknown(std::string name, boost::json::value threshold, std::string why) {
    Gate gate;
    gate.name = std::move(name);
    gate.threshold = std::move(threshold);
    gate.explanation = std::move(why);
    return gate;
}

Gate hard(Gate gate) {
    gate.overridable = false;
    return gate;
}

template <class Range, class Name>
std::string list(const Range& range, Name name, std::size_t at_most = 10) {
    std::string text;
    std::size_t n = 0;
    for (const auto& item : range) {
        if (n == at_most) {
            return text + " and " + std::to_string(range.size() - n) + " more";
        }
        text += (n++ == 0 ? "" : ", ") + name(item);
    }
    return text;
}

std::string list(const std::vector<std::string>& names) {
    return list(names, [](const std::string& name) { return name; });
}

const SideFacts& facts_of(const Facts& facts, Side side) {
    return side == Side::source ? facts.source : facts.target;
}

Gate reachable(const Facts& facts, Side side) {
    const SideFacts& it = facts_of(facts, side);
    return hard(verdict(std::string(to_string(side)) + "_reachable", it.reachable, it.reachable,
                        true,
                        "Banyan's service role cannot reach the " + std::string(to_string(side)) +
                            ": " + it.error));
}

/// A database that is to take writes, as mirror or as primary.
Gate takes_writes(const Facts& facts, Side side) {
    const SideFacts& it = facts_of(facts, side);
    const std::string name = std::string(to_string(side)) + "_takes_writes";
    if (!it.in_recovery) {
        return unknown(name, true, "Whether it does could not be read: " + it.error);
    }
    if (*it.in_recovery) {
        return hard(verdict(name, false, text("in recovery"), true,
                            "The " + std::string(to_string(side)) +
                                " is a standby: it takes no writes until it is promoted. Does its "
                                "address lead to the right server?"));
    }
    return verdict(name, !it.read_only, !it.read_only, true,
                   "The " + std::string(to_string(side)) +
                       " says default_transaction_read_only = on: clients' writes would fail with "
                       "25006 unless they ask for read-write transactions.");
}

Gate different_clusters(const Facts& facts) {
    const auto& a = facts.source;
    const auto& b = facts.target;
    if (a.system_identifier.empty() || b.system_identifier.empty()) {
        return unknown("different_clusters", "not the same database",
                       "pg_control_system() could not be read on both sides.");
    }
    const bool good = a.system_identifier != b.system_identifier || a.database != b.database;
    return hard(verdict(
        "different_clusters", good, text(b.system_identifier + "/" + b.database),
        text("not " + a.system_identifier + "/" + a.database),
        "Source and target are one and the same database: mirroring would write every row twice."));
}

Gate schema_matches(const Facts& facts) {
    if (!facts.catalog_known) {
        return unknown("schema_matches", 0,
                       "The catalogues could not be compared: " + facts.catalog_error);
    }
    static const std::set<std::string> schema_reasons{"not_on_mirror", "columns_differ",
                                                      "key_differs"};
    std::vector<std::pair<std::string, std::string>> bad;
    std::copy_if(facts.not_captured.begin(), facts.not_captured.end(), std::back_inserter(bad),
                 [](const auto& it) { return schema_reasons.contains(it.second); });
    return verdict(
        "schema_matches", bad.empty(), bad.size(), 0,
        "Tables differ between the two databases: " + list(bad, [](const auto& it) {
            return it.first + " (" + it.second + ")";
        }) + ". Bring the target's schema up to date, or leave them out with [migration] exclude.");
}

Gate tables_capturable(const Facts& facts) {
    if (!facts.catalog_known) {
        return unknown("tables_capturable", 0,
                       "The catalogues could not be compared: " + facts.catalog_error);
    }
    Gate gate =
        verdict("tables_capturable", facts.not_captured.empty(), facts.not_captured.size(), 0,
                "Writes to these tables cannot be captured row by row: " +
                    list(facts.not_captured,
                         [](const auto& it) { return it.first + " (" + it.second + ")"; }) +
                    ". Give them a primary key, or leave them out with [migration] exclude.");
    gate.samples = facts.tables_captured + facts.not_captured.size();
    gate.minimum_samples = 1;
    if (gate.samples == 0U) {
        gate.verdict = Verdict::inconclusive;
        gate.explanation = "The source has no table to mirror.";
    }
    return gate;
}

Gate mappings(const Facts& facts) {
    if (!facts.catalog_known) {
        return unknown("mappings", 0,
                       "The catalogues could not be compared: " + facts.catalog_error);
    }
    return hard(verdict("mappings", facts.mapping_problems.empty(), facts.mapping_problems.size(), 0,
                        "Entries of [[mapping]] do not fit the databases: " +
                            list(facts.mapping_problems) + "."));
}

Gate reverse_mappings(const Facts& facts) {
    std::vector<std::string> bad;
    std::vector<std::string> unchecked;
    std::int64_t rows = 0;
    for (const ReverseFacts& it : facts.reverse) {
        rows += it.rows_changed;
        if (!it.missing.empty()) {
            bad.push_back(it.name + " " + it.missing);
        } else if (!it.error.empty()) {
            unchecked.push_back(it.name + ": " + it.error);
        } else if (it.rows_changed > 0) {
            bad.push_back(it.name + " would change " + std::to_string(it.rows_changed) +
                          " rows of the source, such as the one with key " + it.example_key);
        }
    }
    Gate gate = hard(verdict(
        "reverse_mappings", bad.empty(), rows, 0,
        "After SWITCHOVER the source is written by the reverse of each mapping, which must give back "
        "what is there: " +
            list(bad) + ". Correct `reverse` (or the rows), then restart Banyan."));
    if (bad.empty() && !unchecked.empty()) {
        gate.verdict = Verdict::inconclusive;
        gate.explanation = "The way back could not be tried on the source: " + list(unchecked);
    }
    gate.samples = facts.reverse.size();
    return gate;
}

Gate mirror_privileges(const Facts& facts) {
    std::vector<std::string> missing;
    for (const Side side : {Side::source, Side::target}) {
        const auto& roles = facts_of(facts, side).roles_without_replication_role;
        if (!roles) {
            return unknown(
                "mirror_privileges", 0,
                "Privileges could not be read on the " + std::string(to_string(side)) + ".");
        }
        for (const std::string& role : *roles) {
            missing.push_back("on the " + std::string(to_string(side)) +
                              ": GRANT SET ON PARAMETER session_replication_role TO " +
                              quote_identifier(role) + ";");
        }
    }
    return verdict(
        "mirror_privileges", missing.empty(), missing.size(), 0,
        "Banyan writes to the mirror as the client's role with triggers off, so each needs that "
        "right on both sides (the source becomes the mirror after SWITCHOVER). Run, as a "
        "superuser, " +
            list(missing));
}

Gate max_connections(const Facts& facts) {
    const SideFacts& it = facts.target;
    if (!it.reachable || it.max_connections == 0) {
        return unknown("max_connections", 0, "The target's connection limit could not be read.");
    }
    const std::int64_t needed =
        it.used_connections + static_cast<std::int64_t>(facts.sessions) + own_connections;
    return verdict("max_connections", needed <= it.max_connections, needed, it.max_connections,
                   "The target has " + std::to_string(it.max_connections) +
                       " connections for ordinary roles, " + std::to_string(it.used_connections) +
                       " in use; one more is needed for each of " + std::to_string(facts.sessions) +
                       " client sessions. Raise its max_connections.");
}

Gate backfill_done(const Facts& facts) {
    return hard(verdict("backfill_done", facts.backfill_done,
                        text(facts.backfill_done ? "done" : facts.backfill_state), "done",
                        "The backfill is " + facts.backfill_state + ": " +
                            std::to_string(facts.backfill_rows_copied) + " of about " +
                            std::to_string(facts.backfill_rows_estimated) + " rows copied."));
}

Gate breaker(const Facts& facts) {
    return verdict(
        "mirror_breaker", facts.breaker_closed, facts.breaker_closed ? "closed" : "open", "closed",
        "The breaker is open: the mirror failed several times in a row, keys are journaled only.");
}

Gate dirty_keys(const Facts& facts) {
    return verdict("dirty_keys", facts.dirty <= max_dirty, facts.dirty, max_dirty,
                   "Too many keys wait for repair; they must drain while clients are held. See the "
                   "journal for why.");
}

Gate suspect_tables(const Facts& facts) {
    return verdict(
        "suspect_tables", facts.suspects.empty(), facts.suspects.size(), 0,
        "Tables that may differ in unknown rows: " + list(facts.suspects) +
            ". Each is verified by itself; one that cannot be captured must be excluded.");
}

Gate verified(const Facts& facts) {
    std::vector<std::string> different;
    std::vector<std::string> missing;
    for (const VerifiedTable& table : facts.verified) {
        if (table.state == "different") {
            different.push_back(table.name);
        } else if (table.state != "equal") {
            missing.push_back(table.name + (table.state.empty() ? "" : " (" + table.state + ")"));
        }
    }
    const std::size_t equal = facts.verified.size() - different.size() - missing.size();
    Gate gate = verdict("verified", different.empty(), equal, facts.verified.size(),
                        "Verification found differences in: " + list(different) +
                            ". Start one with repair, then verify again.");
    if (different.empty() && (!missing.empty() || facts.verified.empty())) {
        gate.verdict = Verdict::inconclusive;
        gate.explanation = facts.verified.empty()
                               ? "No captured table is known."
                               : "Not verified equal since the backfill: " + list(missing) +
                                     ". Start a verification.";
    }
    gate.samples = equal;
    gate.minimum_samples = facts.verified.size();
    return gate;
}

Gate shadow_mismatches(const Facts& facts) {
    if (!facts.confirmed_unacknowledged) {
        return unknown("shadow_mismatches", 0,
                       "The discrepancies cannot be read from the state database.");
    }
    const std::uint64_t open = *facts.confirmed_unacknowledged;
    Gate gate = verdict("shadow_mismatches", open == 0, open, 0,
                        "Confirmed discrepancies nobody has acknowledged: " +
                            std::to_string(open) + " queries.");
    gate.samples = facts.shadow_matched;
    gate.minimum_samples = facts.shadow_minimum;
    if (gate.verdict == Verdict::pass && facts.shadow_matched < facts.shadow_minimum) {
        gate.verdict = Verdict::inconclusive;
        gate.explanation = "Only " + std::to_string(facts.shadow_matched) +
                           " shadow reads matched since Banyan started; " +
                           std::to_string(facts.shadow_minimum) + " are wanted.";
    } else if (gate.verdict == Verdict::pass && facts.shadow_undecided > 0) {
        gate.verdict = Verdict::inconclusive;
        gate.explanation =
            std::to_string(facts.shadow_undecided) + " mismatches are still being looked at again.";
    }
    return gate;
}

Gate journal_healthy(const Facts& facts) {
    return verdict(
        "journal_healthy", !facts.journal_failed, !facts.journal_failed, true,
        "Writes to the journal are failing: see the disk that holds the state directory.");
}

Gate sequences_present(const Facts& facts, Side primary) {
    const auto& here = facts_of(facts, primary).sequences;
    const auto& there = facts_of(facts, other(primary)).sequences;
    if (!here || !there) {
        return unknown("sequences_present", 0, "The sequences could not be listed on both sides.");
    }
    const std::set<std::string> have(there->begin(), there->end());
    std::vector<std::string> missing;
    std::copy_if(here->begin(), here->end(), std::back_inserter(missing),
                 [&](const std::string& name) {
                     const auto twin = facts.sequence_twins.find(name);
                     return !have.contains(twin == facts.sequence_twins.end() ? name
                                                                              : twin->second);
                 });
    return verdict("sequences_present", missing.empty(), missing.size(), 0,
                   "Sequences missing on the " + std::string(to_string(other(primary))) + ": " +
                       list(missing) + ".");
}

Gate large_objects(const Facts& facts, Side primary) {
    const auto& count = facts_of(facts, primary).large_objects;
    if (!count) {
        return unknown("large_objects", 0, "The large objects could not be counted.");
    }
    return verdict("large_objects", *count == 0, *count, 0,
                   "Large objects are neither copied nor mirrored: bring them over by other means "
                   "(pg_dump --large-objects, lo_export), then override this gate.");
}

Gate bypassing_writers(const Facts& facts) {
    if (!facts.foreign) {
        return unknown("bypassing_writers", 0,
                       "pg_stat_activity could not be read on the primary.");
    }
    std::vector<ForeignBackend> writers;
    std::copy_if(facts.foreign->begin(), facts.foreign->end(), std::back_inserter(writers),
                 [](const ForeignBackend& it) { return it.writing || it.prepared; });
    const std::size_t idle = facts.foreign->size() - writers.size();
    return verdict("bypassing_writers", writers.empty(), writers.size(), 0,
                   "Transactions that write on the primary without Banyan: " +
                       list(writers,
                            [](const ForeignBackend& it) {
                                return it.prepared
                                           ? "prepared transaction " + it.application
                                           : "process " + std::to_string(it.process_id) + " (" +
                                                 it.user + ", " + it.application + ")";
                            }) +
                       ". What they write after the flip is lost.",
                   idle == 0 ? ""
                             : std::to_string(idle) +
                                   " connections bypass Banyan; none is writing now. Revoke "
                                   "their CONNECT before the flip.");
}

}  // namespace

std::string_view to_string(Verdict verdict) {
    switch (verdict) {
        case Verdict::pass:
            return "pass";
        case Verdict::fail:
            return "fail";
        case Verdict::inconclusive:
            return "inconclusive";
    }
    return "?";
}

std::vector<Gate> evaluate_gates(Phase from, Phase to, const Facts& facts) {
    const bool forward = from < to;
    switch (to) {
        case Phase::initial:
            return {};
        case Phase::dual_write:
            if (!forward) {
                return {};
            }
            return {reachable(facts, Side::source), reachable(facts, Side::target),
                    takes_writes(facts, Side::target),
                    different_clusters(facts),      schema_matches(facts),
                    mappings(facts),
                    tables_capturable(facts),       mirror_privileges(facts),
                    max_connections(facts),         journal_healthy(facts)};
        case Phase::dual_read:
            if (forward) {
                return {backfill_done(facts), breaker(facts), dirty_keys(facts)};
            }
            return {reachable(facts, Side::source), takes_writes(facts, Side::source),
                    breaker(facts),
                    suspect_tables(facts),          dirty_keys(facts),
                    journal_healthy(facts),         sequences_present(facts, Side::target),
                    large_objects(facts, Side::target), bypassing_writers(facts)};
        case Phase::switchover:
            return {reachable(facts, Side::target),
                    takes_writes(facts, Side::target),
                    backfill_done(facts),
                    breaker(facts),
                    suspect_tables(facts),
                    dirty_keys(facts),
                    verified(facts),
                    shadow_mismatches(facts),
                    reverse_mappings(facts),
                    journal_healthy(facts),
                    sequences_present(facts, Side::source),
                    large_objects(facts, Side::source),
                    bypassing_writers(facts)};
        case Phase::complete:
            // The one step that cannot be taken back: the source must be a copy one could still
            // have gone back to. Overridable, for a source that is gone already.
            return {reachable(facts, Side::target), suspect_tables(facts), dirty_keys(facts),
                    verified(facts), shadow_mismatches(facts)};
    }
    return {};
}

bool gates_open(const std::vector<Gate>& gates, bool override_gates) {
    return std::all_of(gates.begin(), gates.end(), [&](const Gate& gate) {
        return gate.verdict == Verdict::pass || (override_gates && gate.overridable);
    });
}

std::string closed_gates(const std::vector<Gate>& gates) {
    std::string names;
    for (const Gate& gate : gates) {
        if (gate.verdict != Verdict::pass) {
            names += (names.empty() ? "" : ", ") + gate.name;
        }
    }
    return names;
}

boost::json::object to_json(const Gate& gate) {
    const auto number = [](const std::optional<std::uint64_t>& n) {
        return n ? boost::json::value(*n) : boost::json::value(nullptr);
    };
    return {{"name", gate.name},
            {"verdict", to_string(gate.verdict)},
            {"value", gate.value},
            {"threshold", gate.threshold},
            {"samples", number(gate.samples)},
            {"minimum_samples", number(gate.minimum_samples)},
            {"overridable", gate.overridable},
            {"explanation", gate.explanation}};
}

boost::json::array to_json(const std::vector<Gate>& gates) {
    boost::json::array array;
    for (const Gate& gate : gates) {
        array.push_back(to_json(gate));
    }
    return array;
}

}  // namespace banyan::router
