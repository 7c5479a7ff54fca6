#include "router/sql/statement.hpp"

#include <pg_query.h>

#include <algorithm>

#include "router/sql/classify.hpp"
#include "router/sql/collect.hpp"
#include "router/sql/nesting.hpp"
#include "router/sql/tree.hpp"

namespace banyan::router {

namespace {

constexpr std::string_view white_space = " \t\n\r\f\v";

/// PostgreSQL, too, reads a query up to its first NUL.
std::string_view until_nul(std::string_view sql) {
    return sql.substr(0, sql.find('\0'));
}

/// The parser counts white space and comments before a statement to it, and marks the end of the
/// text by length 0. Comments are kept: some carry hints or traces. White space is not.
void set_extent(const PgQuery__RawStmt& raw, std::string_view sql, Statement& statement) {
    const std::size_t begin =
        std::min(static_cast<std::size_t>(std::max(raw.stmt_location, 0)), sql.size());
    const std::size_t end =
        raw.stmt_len > 0 ? std::min(begin + static_cast<std::size_t>(raw.stmt_len), sql.size())
                         : sql.size();
    const std::string_view text = sql.substr(begin, end - begin);
    const std::size_t first = text.find_first_not_of(white_space);
    if (first == std::string_view::npos) {
        statement.begin = statement.end = end;
        return;
    }
    statement.begin = begin + first;
    statement.end = begin + text.find_last_not_of(white_space) + 1;
}

void read_statements(ParsedQuery& query) {
    const ParseTree tree = parse_tree(query.sql);
    if (tree.root == nullptr) {
        query.parsed = false;
        query.error = tree.error;
        return;
    }
    query.statements.reserve(tree.root->n_stmts);
    for (std::size_t i = 0; i < tree.root->n_stmts; ++i) {
        const PgQuery__RawStmt& raw = *tree.root->stmts[i];
        if (raw.stmt == nullptr) {
            continue;
        }
        Statement& statement = query.statements.emplace_back();
        set_extent(raw, query.sql, statement);
        const Collected collected = collect(*raw.stmt, statement);
        query.has_parameters = query.has_parameters || collected.parameters;
        classify(*raw.stmt, collected.modifying_with, statement);
    }
}

}  // namespace

std::string_view to_string(StatementKind kind) {
    switch (kind) {
        case StatementKind::read:
            return "read";
        case StatementKind::insert:
            return "insert";
        case StatementKind::update:
            return "update";
        case StatementKind::erase:
            return "delete";
        case StatementKind::write_opaque:
            return "write_opaque";
        case StatementKind::copy_from:
            return "copy_from";
        case StatementKind::truncate:
            return "truncate";
        case StatementKind::ddl:
            return "ddl";
        case StatementKind::concurrent_ddl:
            return "concurrent_ddl";
        case StatementKind::outside_schema:
            return "outside_schema";
        case StatementKind::call:
            return "call";
        case StatementKind::anonymous_block:
            return "anonymous_block";
        case StatementKind::self_committing:
            return "self_committing";
        case StatementKind::begin:
            return "begin";
        case StatementKind::commit:
            return "commit";
        case StatementKind::rollback:
            return "rollback";
        case StatementKind::savepoint:
            return "savepoint";
        case StatementKind::release:
            return "release";
        case StatementKind::rollback_to:
            return "rollback_to";
        case StatementKind::prepare_transaction:
            return "prepare_transaction";
        case StatementKind::commit_prepared:
            return "commit_prepared";
        case StatementKind::rollback_prepared:
            return "rollback_prepared";
        case StatementKind::set:
            return "set";
        case StatementKind::prepare:
            return "prepare";
        case StatementKind::execute:
            return "execute";
        case StatementKind::deallocate:
            return "deallocate";
        case StatementKind::discard:
            return "discard";
        case StatementKind::primary_only:
            return "primary_only";
    }
    return "unknown";
}

std::shared_ptr<const ParsedQuery> parse_query(std::string_view sql) {
    auto query = std::make_shared<ParsedQuery>();
    query->sql = until_nul(sql);
    if (query->sql.size() > max_sql_bytes) {
        query->parsed = false;
        query->error = "longer than is parsed";
    } else if (!with_stack_for(query->sql, [&] { read_statements(*query); })) {
        query->parsed = false;
        query->error = "nested too deep to be parsed";
    }
    return query;
}

std::string fingerprint(std::string_view sql) {
    const std::string text(until_nul(sql));
    std::string result;
    if (text.size() <= max_sql_bytes) {
        with_stack_for(text, [&] {
            const PgQueryFingerprintResult read = pg_query_fingerprint(text.c_str());
            if (read.error == nullptr && read.fingerprint_str != nullptr) {
                result = read.fingerprint_str;
            }
            pg_query_free_fingerprint_result(read);
        });
    }
    return result;
}

std::string normalize(std::string_view sql) {
    const std::string text(until_nul(sql));
    std::string result;
    if (text.size() <= max_normalized_bytes) {
        with_stack_for(text, [&] {
            const PgQueryNormalizeResult read = pg_query_normalize(text.c_str());
            if (read.error == nullptr && read.normalized_query != nullptr) {
                result = read.normalized_query;
            }
            pg_query_free_normalize_result(read);
        });
    }
    return result;
}

}  // namespace banyan::router
