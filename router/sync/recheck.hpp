// Looks again at keys whose rows seemed to differ, until each is known to be equal, known to
// differ, or given up on. The argument is in router/sync/README.md, "Verification".
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "router/state/ledger.hpp"
#include "router/sync/table_sql.hpp"
#include "router/sync/verify_session.hpp"

namespace banyan::router {

enum class Verdict { equal, missing, extra, different, undecided };

struct Rechecked {
    KeyText text;
    RowKey key;
    Verdict verdict = Verdict::undecided;
};

/// The answer is parallel to `keys`. Cancelled: what is not decided yet stays undecided.
Result<std::vector<Rechecked>> recheck_keys(VerifySession& session, const Ledger& ledger,
                                            const Table& table, const std::vector<KeyText>& keys,
                                            const std::atomic<bool>& cancel);

/// The names of the columns that differ between the two sides' rows of one key.
Result<std::vector<std::string>> differing_columns(VerifySession& session, const Table& table,
                                                   const KeyText& key);

}  // namespace banyan::router
