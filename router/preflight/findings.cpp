#include "router/preflight/findings.hpp"

#include <algorithm>
#include <map>

#include "router/preflight/drift.hpp"

namespace banyan::router {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;

const value& member(const object& from, const char* name) {
    static const value absent;
    const auto* found = from.if_contains(name);
    return found != nullptr ? *found : absent;
}

std::string text(const object& from, const char* name) {
    const value& found = member(from, name);
    return found.is_string() ? std::string(found.get_string()) : "";
}

std::int64_t number(const object& from, const char* name) {
    boost::system::error_code error;
    const auto found = member(from, name).to_number<std::int64_t>(error);
    return error ? 0 : found;
}

bool truth(const object& from, const char* name) {
    const value& found = member(from, name);
    return found.is_bool() && found.get_bool();
}

const object& section(const object& snapshot, const char* name) {
    static const object none;
    const value& found = member(snapshot, name);
    return found.is_object() ? found.get_object() : none;
}

const array& list(const object& snapshot, const char* name) {
    static const array none;
    const value& found = member(snapshot, name);
    return found.is_array() ? found.get_array() : none;
}

std::string joined(const array& names) {
    std::string all;
    for (const auto& name : names) {
        if (name.is_string()) {
            all += (all.empty() ? "" : ", ") + std::string(name.get_string());
        }
    }
    return all;
}

std::string sql_literal(std::string_view literal) {
    std::string out = "'";
    for (const char c : literal) {
        out += c == '\'' ? "''" : std::string(1, c);
    }
    return out + "'";
}

/// Collects the findings of one run; a check without any is told to be well.
class Examination {
   public:
    Examination(const PreflightInput& input, std::size_t most) : in_(input), most_(most) {}

    std::vector<Finding> run() {
        reachability();
        if (!in_.source.empty() && !in_.target.empty()) {
            identity();
            text_forms();
            settings();
            extensions();
            schema();
            connections();
            roles();
        }
        tables();
        others();
        static const auto order = [](const Finding& finding) {
            return -static_cast<int>(finding.severity);
        };
        std::stable_sort(found_.begin(), found_.end(), [](const Finding& a, const Finding& b) {
            return order(a) < order(b);
        });
        return std::move(found_);
    }

   private:
    struct Side {
        const char* name;
        const object& snapshot;
        const std::string& error;
    };

    std::vector<Side> sides() const {
        return {{"source", in_.source, in_.source_error}, {"target", in_.target, in_.target_error}};
    }

    void add(Finding finding) {
        const auto count = ++counts_[finding.name];
        if (count <= most_) {
            found_.push_back(std::move(finding));
        } else if (count == most_ + 1) {
            finding.subject.clear();
            finding.what = "There are more than these; mend them, then look again.";
            found_.push_back(std::move(finding));
        }
    }

    /// After the check's own findings.
    void well(const char* name, const char* what) {
        if (!counts_.contains(name)) {
            found_.push_back({name, Severity::ok, "", what, "", std::nullopt, ""});
        }
    }

    void reachability() {
        for (const auto& side : sides()) {
            if (side.snapshot.empty()) {
                add({"reachable", Severity::block, side.name,
                     std::string("The ") + side.name + " could not be asked: " + side.error,
                     "Nothing can be mirrored to, or read from, a database that does not answer.",
                     Phase::dual_write, "Start it, or mend [" + std::string(side.name) + "]."});
                continue;
            }
            for (const auto& error : section(side.snapshot, "errors")) {
                add({"readable", Severity::warn, side.name,
                     "On the " + std::string(side.name) + ", \"" + std::string(error.key()) +
                         "\" could not be read: " +
                         std::string(error.value().is_string() ? error.value().get_string().c_str()
                                                               : "?"),
                     "What is not read is not checked.", std::nullopt,
                     "Give Banyan's own role the right to read it (a superuser may)."});
            }
        }
        well("reachable", "Both databases answer.");
        well("readable", "Everything that is checked could be read.");
    }

    void identity() {
        const auto& a = section(in_.source, "server");
        const auto& b = section(in_.target, "server");
        if (!text(a, "system_identifier").empty() &&
            text(a, "system_identifier") == text(b, "system_identifier") &&
            text(a, "database") == text(b, "database")) {
            add({"different_databases", Severity::block, "",
                 "Source and target are one and the same database.",
                 "Mirroring would write every row twice.", Phase::dual_write,
                 "Point [target] at the new database."});
        }
        well("different_databases", "Source and target are different databases.");
        if (truth(b, "in_recovery") || truth(b, "read_only")) {
            add({"takes_writes", Severity::block, "target",
                 truth(b, "in_recovery") ? "The target is a standby."
                                         : "Sessions on the target are read-only by default.",
                 "Nothing can be mirrored to it.", Phase::dual_write,
                 truth(b, "in_recovery")
                     ? "Promote it, or point [target] at its primary."
                     : "ALTER DATABASE ... RESET default_transaction_read_only"});
        }
        if (truth(a, "in_recovery")) {
            add({"takes_writes", Severity::warn, "source", "The source is a standby.",
                 "It is not the database that the application writes to.", Phase::dual_write,
                 "Point [source] at its primary."});
        }
        well("takes_writes", "Both databases take writes.");
        if (number(b, "version_num") / 10000 < number(a, "version_num") / 10000) {
            add({"server_version", Severity::warn, "target",
                 "The target is version " + text(b, "version") + ", the source " +
                     text(a, "version") + ".",
                 "Statements and settings of the newer version may not exist on the older one.",
                 Phase::dual_write, "Migrate to the same version or a newer one."});
        }
        well("server_version", "The target's version is not older than the source's.");
        for (const auto& side : sides()) {
            if (const auto& server = section(side.snapshot, "server"); !truth(server, "superuser")) {
                add({"own_role", Severity::warn, side.name,
                     "Banyan's own role \"" + text(server, "role") + "\" is no superuser there.",
                     "Reading pg_authid, writing as replication and reading every table need rights "
                     "that only a superuser has without further grants.",
                     Phase::dual_write,
                     "ALTER ROLE \"" + text(server, "role") +
                         "\" SUPERUSER, for the time of the migration"});
            }
        }
        well("own_role", "Banyan's own role is a superuser on both sides.");
        if (section(in_.target, "settings").contains("fsync") &&
            text(section(in_.target, "settings"), "fsync") == "off") {
            add({"durable", Severity::warn, "target", "fsync is off.",
                 "A crash of its machine may lose or damage rows that were acknowledged.",
                 Phase::switchover, "fsync = on in its postgresql.conf, then reload"});
        }
        well("durable", "The target writes through to its disk.");
    }

    void text_forms() {
        const auto& a = section(in_.source, "server");
        const auto& b = section(in_.target, "server");
        if (text(a, "encoding") != text(b, "encoding")) {
            add({"encoding", text(b, "encoding") == "UTF8" ? Severity::info : Severity::warn, "",
                 "The encodings differ: " + text(a, "encoding") + " and " + text(b, "encoding") + ".",
                 "Text is converted; what the target's encoding does not know is refused there.",
                 Phase::dual_write, "Create the target database WITH ENCODING 'UTF8'."});
        }
        well("encoding", "The encodings are the same.");
        for (const char* each : {"collate", "ctype"}) {
            if (text(a, each) != text(b, each)) {
                add({"collation", Severity::warn, each,
                     std::string("lc_") + each + " differs: " + text(a, each) + " and " +
                         text(b, each) + ".",
                     "Text sorts and compares differently: shadow reads with ORDER BY differ, and "
                     "queries by ranges of text answer differently after the switch.",
                     Phase::dual_read,
                     "Create the target database with the same LC_COLLATE and LC_CTYPE."});
            }
        }
        if (const auto va = text(a, "collation_version"), vb = text(b, "collation_version");
            va != vb && !va.empty() && !vb.empty()) {
            add({"collation", Severity::warn, "version",
                 "The database's collation has version " + va + " on the source, " + vb +
                     " on the target.",
                 "Some texts sort differently; shadow reads with ORDER BY may differ.",
                 Phase::dual_read, "Expect it, or use ICU or C collations where order matters."});
        }
        for (const auto& side : sides()) {
            for (const auto& each : list(side.snapshot, "collations")) {
                const auto& it = each.get_object();
                add({"collation", Severity::warn, text(it, "name"),
                     "On the " + std::string(side.name) + " it was recorded with version " +
                         text(it, "recorded") + "; the library has " + text(it, "actual") + ".",
                     "Indexes built before may miss rows.", Phase::dual_write,
                     "REINDEX what uses it, then ALTER COLLATION \"" + text(it, "name") +
                         "\" REFRESH VERSION"});
            }
        }
        well("collation", "Text sorts the same on both sides.");
    }

    void settings() {
        static const std::vector<const char*> printing = {
            "TimeZone",      "DateStyle",    "IntervalStyle",       "extra_float_digits",
            "bytea_output",  "lc_monetary",  "lc_numeric",          "lc_time",
            "xmlbinary",     "xmloption",    "standard_conforming_strings",
            "search_path",   "array_nulls",  "default_text_search_config",
            "transform_null_equals", "default_transaction_isolation"};
        const auto& a = section(in_.source, "settings");
        const auto& b = section(in_.target, "settings");
        for (const char* name : printing) {
            if (!a.empty() && !b.empty() && text(a, name) != text(b, name)) {
                add({"settings", Severity::warn, name,
                     std::string(name) + " is " + sql_literal(text(a, name)) + " on the source, " +
                         sql_literal(text(b, name)) + " on the target.",
                     "Values print, or statements work, differently after the switch.",
                     Phase::dual_read,
                     "ALTER DATABASE \"" + text(section(in_.target, "server"), "database") +
                         "\" SET " + name + " = " + sql_literal(text(a, name)) + "  -- on the target"});
            }
        }
        well("settings", "Settings that change how values print are the same.");
    }

    void extensions() {
        const auto& a = section(in_.source, "extensions");
        const auto& b = section(in_.target, "extensions");
        for (const auto& each : a) {
            const std::string name(each.key());
            const auto version = text(a, name.c_str());
            if (!b.contains(name)) {
                add({"extensions", Severity::warn, name,
                     "Extension " + name + " is not on the target.",
                     "Its types and functions are missing there.", Phase::dual_write,
                     "CREATE EXTENSION \"" + name + "\"  -- on the target"});
            } else if (text(b, name.c_str()) != version) {
                add({"extensions", Severity::info, name,
                     "Extension " + name + " is version " + version + " on the source, " +
                         text(b, name.c_str()) + " on the target.",
                     "Its functions may behave differently.", Phase::dual_read, ""});
            }
        }
        well("extensions", "The source's extensions are on the target.");
    }

    void schema() {
        std::set<std::string> left_out = in_.excluded;
        left_out.insert(in_.mapped.begin(), in_.mapped.end());
        for (const auto& it :
             schema_drift(list(in_.source, "objects"), list(in_.target, "objects"), left_out)) {
            add(judge(it));
        }
        well("schema_drift", "The two schemas have the same objects.");
        for (const auto& problem : in_.mapping_problems) {
            add({"mappings", Severity::block, "", problem, "A mapping that is wrong mirrors nothing.",
                 Phase::dual_write, "Mend the [[mapping]] in the configuration file."});
        }
    }

    static Finding judge(const Drift& it) {
        Finding finding{"schema_drift", Severity::warn, it.kind + " " + it.name, "", "",
                        Phase::switchover, ""};
        switch (it.what) {
            case Drift::What::only_on_source:
                finding.what = "It is on the source only.";
                finding.fix = "Create it on the target too: " + it.source;
                break;
            case Drift::What::only_on_target:
                finding.what = "It is on the target only.";
                finding.fix = "Drop it there, or create it on the source too: " + it.target;
                break;
            case Drift::What::differs:
                finding.what = "Source: " + it.source + ". Target: " + it.target + ".";
                finding.fix = "Make the target's like the source's.";
                break;
        }
        const bool missing = it.what == Drift::What::only_on_source;
        if (it.kind == "table" || it.kind == "column") {
            finding.why = "Rows of this table are not mirrored while its columns differ.";
            finding.phase = Phase::dual_write;
            finding.severity = it.kind == "table" && !missing ? Severity::info : Severity::block;
            if (it.kind == "table" && it.what == Drift::What::differs) {
                finding.severity = Severity::warn;
                finding.why = "It is stored differently; rows are the same.";
            }
        } else if (it.kind == "sequence") {
            finding.why = missing ? "nextval() fails on the target after the switch."
                                  : "Values may be generated differently after the switch.";
            finding.severity = missing ? Severity::block : Severity::warn;
        } else if (it.kind == "constraint") {
            finding.why = missing ? "After the switch the target accepts what the source refuses."
                                  : "The target may refuse rows that the source has accepted.";
        } else if (it.kind == "index") {
            finding.why = missing ? "Queries that need it are slow after the switch, and a unique "
                                    "one guards nothing."
                                  : "A unique one may refuse rows that the source has accepted.";
            finding.severity = missing ? Severity::warn : Severity::info;
        } else {
            finding.why = "Applications find it different, or not at all, after the switch.";
        }
        return finding;
    }

    void connections() {
        const auto& b = section(in_.target, "server");
        const auto most = number(b, "max_connections");
        const auto needed =
            static_cast<std::int64_t>(in_.max_clients + in_.own_connections);
        if (most > 0 && needed > most) {
            add({"max_connections", Severity::warn, "target",
                 "[limits] max_clients = " + std::to_string(in_.max_clients) +
                     " sessions and Banyan's own need " + std::to_string(needed) +
                     " connections; the target lets in " + std::to_string(most) + ".",
                 "Sessions without a mirror connection are journaled only, and repaired later.",
                 Phase::dual_write, "Raise max_connections on the target, or lower max_clients."});
        }
        well("max_connections", "The target has a connection for every client that may come.");
    }

    void roles() {
        const auto& a = section(in_.source, "roles");
        const auto& b = section(in_.target, "roles");
        if (a.empty() || b.empty()) {
            return;
        }
        for (const auto& each : a) {
            const std::string name(each.key());
            if (!b.contains(name)) {
                add({"roles", Severity::warn, name, "The role is not on the target.",
                     "Its sessions get no connection to the mirror: their writes are journaled and "
                     "repaired, and after the switch it cannot log in.",
                     Phase::dual_write, "pg_dumpall --roles-only copies roles with their passwords."});
                continue;
            }
            for (const auto& [side, may] : {std::pair{"source", each.value() == true},
                                            std::pair{"target", b.at(name) == true}}) {
                if (!may) {
                    add({"roles", Severity::warn, name,
                         "On the " + std::string(side) +
                             " the role may not SET session_replication_role.",
                         "Its sessions could not write row images to the mirror, whose triggers must "
                         "not act on them again. A gate checks the roles that are in use.",
                         Phase::dual_write,
                         "GRANT SET ON PARAMETER session_replication_role TO \"" + name + "\"  -- on the " +
                             side});
                }
            }
        }
        well("roles", "Every role that may log in can write to the mirror.");
    }

    void tables() {
        static const std::map<std::string, std::pair<const char*, const char*>> reasons = {
            {"no_key", {"has no primary key, nor a unique index over columns that are NOT NULL",
                        "ALTER TABLE ... ADD PRIMARY KEY (...)"}},
            {"not_on_mirror", {"is not on the target", "Create it there."}},
            {"columns_differ", {"has other columns on the target", "Make the columns the same."}},
            {"key_differs", {"has another key on the target", "Make the keys the same."}}};
        if (in_.not_captured) {
            for (const auto& [name, reason] : *in_.not_captured) {
                const auto known = reasons.find(reason);
                add({"tables_capturable", Severity::block, name,
                     known != reasons.end() ? std::string("It ") + known->second.first + "."
                                            : "Its rows cannot be captured: " + reason + ".",
                     "Its writes cannot be mirrored row by row.", Phase::dual_write,
                     std::string(known != reasons.end() ? known->second.second : "Give it a key") +
                         "  -- or leave it out with [migration] exclude"});
            }
            well("tables_capturable", "Every table can be mirrored by row.");
        }
        for (const auto& each : list(in_.source, "tables")) {
            const auto& it = each.get_object();
            if (!in_.excluded.contains(text(it, "name"))) {
                table(it);
            }
        }
        well("unlogged", "No table is unlogged.");
        well("row_security", "No table has row security.");
        well("inheritance", "No table inherits but partitions.");
        well("triggers", "No table has triggers.");
        well("foreign_actions", "No foreign key changes other rows.");
        well("rules", "No table has rules.");
        well("foreign_tables", "There are no foreign tables.");
    }

    void table(const object& it) {
        const auto name = text(it, "name");
        if (text(it, "kind") == "f") {
            add({"foreign_tables", Severity::warn, name, "It is a foreign table.",
                 "Its rows are elsewhere; Banyan neither copies nor mirrors them.",
                 Phase::dual_write, "Leave it out with [migration] exclude."});
            return;
        }
        if (text(it, "persistence") == "u") {
            add({"unlogged", Severity::warn, name, "It is unlogged.",
                 "After a crash of one server it is empty there; the two sides then differ.",
                 Phase::dual_write, "ALTER TABLE " + name + " SET LOGGED, or exclude it."});
        }
        if (truth(it, "row_security")) {
            add({"row_security", Severity::info, name, "It has row security.",
                 "With deep capture its rows are mirrored exactly; without, it turns suspect when "
                 "written, and is verified.",
                 Phase::dual_write, "banyanctl capture install"});
        }
        if (truth(it, "inherits")) {
            add({"inheritance", Severity::info, name, "It inherits, or is inherited from.",
                 "With deep capture its rows are mirrored exactly; without, it turns suspect when "
                 "written through its parent, and is verified.",
                 Phase::dual_write, "banyanctl capture install"});
        }
        if (const auto triggers = joined(list(it, "triggers")); !triggers.empty()) {
            add({"triggers", Severity::info, name, "It has triggers: " + triggers + ".",
                 "They run on the primary alone, and what they write is mirrored: by row with deep "
                 "capture, by suspicion and verification without.",
                 Phase::dual_write, "banyanctl capture install"});
        }
        if (const auto keys = joined(list(it, "foreign_actions")); !keys.empty()) {
            add({"foreign_actions", Severity::info, name,
                 "Foreign keys that change rows elsewhere: " + keys + ".",
                 "Rows that they reach are mirrored: deletions by row, changes through repair, or all "
                 "by row with deep capture.",
                 Phase::dual_write, "banyanctl capture install"});
        }
        if (truth(it, "rules")) {
            add({"rules", Severity::info, name, "It has rules.",
                 "What they write instead is mirrored by row with deep capture, by suspicion and "
                 "verification without.",
                 Phase::dual_write, "banyanctl capture install"});
        }
    }

    void others() {
        if (const auto count = number(in_.source, "large_objects"); count > 0) {
            add({"large_objects", Severity::block, "",
                 "The source has " + std::to_string(count) + " large objects.",
                 "They are neither copied nor mirrored.", Phase::switchover,
                 "Bring them over by other means (pg_dump --large-objects, lo_export), then override "
                 "the gate."});
        }
        well("large_objects", "There are no large objects.");
        for (const auto& side : sides()) {
            if (const auto gids = joined(list(side.snapshot, "prepared")); !gids.empty()) {
                add({"prepared_transactions", Severity::warn, side.name,
                     "Prepared transactions on the " + std::string(side.name) + ": " + gids + ".",
                     "They hold locks, and what they wrote becomes visible when nobody expects it.",
                     Phase::dual_write, "COMMIT PREPARED or ROLLBACK PREPARED each."});
            }
            if (const auto names = joined(list(side.snapshot, "subscriptions")); !names.empty()) {
                add({"subscriptions", Severity::warn, side.name,
                     "Subscriptions write to the " + std::string(side.name) + ": " + names + ".",
                     "What they write passes Banyan by.", Phase::dual_write,
                     "ALTER SUBSCRIPTION ... DISABLE"});
            }
            if (const auto names = joined(list(side.snapshot, "event_triggers")); !names.empty()) {
                add({"event_triggers", Severity::info, side.name,
                     "Event triggers on the " + std::string(side.name) + ": " + names + ".",
                     "They run for DDL on each side by itself; tables they write turn suspect.",
                     Phase::dual_write, ""});
            }
        }
        for (const auto& each : list(in_.source, "long_transactions")) {
            const auto& it = each.get_object();
            add({"long_transactions", Severity::warn,
                 "process " + std::to_string(number(it, "process_id")),
                 "A transaction of " + text(it, "user") + " (" + text(it, "application") +
                     ") has been open for " + std::to_string(number(it, "seconds")) + " s.",
                 "A change of phase waits for transactions that are open; repair and backfill wait "
                 "for those that write.",
                 Phase::dual_write,
                 "End it: SELECT pg_terminate_backend(" + std::to_string(number(it, "process_id")) +
                     ")"});
        }
        well("prepared_transactions", "No transaction is prepared.");
        well("subscriptions", "No subscription writes to either side.");
        well("event_triggers", "There are no event triggers.");
        well("long_transactions", "No transaction has been open for more than a minute.");
    }

    const PreflightInput& in_;
    const std::size_t most_;
    std::vector<Finding> found_;
    std::map<std::string, std::size_t> counts_;
};

}  // namespace

std::string_view to_string(Severity severity) {
    switch (severity) {
        case Severity::ok:
            return "ok";
        case Severity::info:
            return "info";
        case Severity::warn:
            return "warn";
        case Severity::block:
            return "block";
    }
    return "?";
}

std::vector<Finding> preflight(const PreflightInput& input, std::size_t most) {
    return Examination(input, most).run();
}

object to_json(const Finding& finding) {
    return {{"name", finding.name},
            {"severity", to_string(finding.severity)},
            {"subject", finding.subject},
            {"what", finding.what},
            {"why", finding.why},
            {"phase", finding.phase ? value(to_string(*finding.phase)) : value(nullptr)},
            {"fix", finding.fix}};
}

object to_json(const std::vector<Finding>& findings) {
    array all;
    std::uint64_t blocks = 0;
    std::uint64_t warnings = 0;
    for (const auto& finding : findings) {
        blocks += finding.severity == Severity::block ? 1U : 0U;
        warnings += finding.severity == Severity::warn ? 1U : 0U;
        all.emplace_back(to_json(finding));
    }
    return {{"findings", std::move(all)}, {"blocks", blocks}, {"warnings", warnings}};
}

}  // namespace banyan::router
