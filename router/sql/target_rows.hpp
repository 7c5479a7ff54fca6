// The rows that an UPDATE or DELETE will touch, as a SELECT made of the statement's own WITH, FROM
// and WHERE.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/catalog/catalog.hpp"
#include "router/sql/tree.hpp"

namespace banyan::router {

class TargetRows {
   public:
    /// `sql` is the text of one UPDATE or DELETE.
    explicit TargetRows(const std::string& sql);

    /// False if the text is no UPDATE or DELETE.
    bool readable() const { return relation_ != nullptr; }
    /// WHERE CURRENT OF names a cursor's row: no SELECT can.
    bool current_of() const;
    /// True if FROM or USING has another relation of the target's bare name.
    bool ambiguous() const;
    /// True if the condition, evaluated once more, picks the same rows.
    bool repeatable(const Catalog& catalog) const;
    /// SELECT `columns` FROM target, others WHERE condition [FOR UPDATE OF target]. nullopt if
    /// the statement cannot be put into text exactly.
    std::optional<std::string> select(const std::vector<std::string>& columns, bool lock) const;

   private:
    ParseTree tree_;
    PgQuery__RangeVar* relation_ = nullptr;
    std::vector<PgQuery__Node*> others_;
    PgQuery__Node* where_ = nullptr;
    PgQuery__WithClause* with_ = nullptr;
};

}  // namespace banyan::router
