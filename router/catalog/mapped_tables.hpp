// The rules of [[mapping]] held against both databases' catalogues: which columns each rule maps, by
// which key, what is wrong with it, and the Tables it makes in either direction. Pure, but for trying
// the expressions (mapping_check.hpp). Used by catalog_loader.cpp only.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "router/catalog/mapping_check.hpp"
#include "router/catalog/mapping_rule.hpp"
#include "router/catalog/raw_catalog.hpp"
#include "router/state/state_db.hpp"

namespace banyan::router {

class MappedTables {
   public:
    /// All outlive this. Rules that map a table to itself are left out.
    MappedTables(const std::vector<MappingRule>& rules, const RawCatalog& source,
                 const RawCatalog& target, StateDb& db);

    /// Tries the expressions on their side. Error: a connection failed.
    Result<void> check(Connection& source, Connection& target);

    /// The relation of this side is named by a rule; otherwise it is mirrored under its own name.
    bool names(Side side, const RawRelation& relation) const;
    /// The Tables of a relation that names() knows, with mapping, key and columns, or with the reason
    /// why not. What is known of the relation alone (triggers and the like) is the caller's to add.
    std::vector<std::shared_ptr<Table>> tables(Side primary, const RawRelation& relation) const;

    /// Every problem with a rule, whichever side is primary.
    const std::vector<std::string>& problems() const { return problems_; }
    /// Sequences of mapped columns, source -> target.
    std::map<std::string, std::string> sequences() const;

   private:
    struct MappedColumn {
        const RawColumn* column = nullptr;
        RowExpression value;
    };
    struct Resolved {
        const MappingRule* rule = nullptr;
        const RawRelation* source = nullptr;
        const RawRelation* target = nullptr;
        std::vector<MappedColumn> forward;   ///< of the target
        std::vector<MappedColumn> backward;  ///< of the source
        std::vector<std::string> source_key;
        std::vector<std::string> target_key;
        std::string no_reverse;
        bool known = true;  ///< its tables and columns are there: the expressions can be tried
        bool sound = true;
    };
    using Rules = std::vector<const Resolved*>;

    void problem(Resolved& it, const std::string& text);
    void resolve(Resolved& it);
    void map_forward(Resolved& it);
    void map_backward(Resolved& it);
    void choose_key(Resolved& it);
    void check_split(const TableName& source);
    Rules rules_of(const TableName& source) const;
    std::shared_ptr<Table> describe(const Resolved& it, Side primary) const;
    std::shared_ptr<Mapping> one_mapping(const Resolved& it, Side primary) const;
    std::shared_ptr<const Table> mirror_of(const Resolved& it, Side primary,
                                           const std::vector<MappedColumn>& columns) const;
    void turn_round(const Rules& rules, Mapping& mapping) const;
    static bool surely_reversible(const Rules& rules);
    std::string check_of(const Rules& rules) const;

    const RawCatalog& source_;
    const RawCatalog& target_;
    StateDb& db_;
    std::deque<Resolved> resolved_;
    std::vector<std::string> problems_;
};

}  // namespace banyan::router
