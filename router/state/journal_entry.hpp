// One journal entry: what a transaction about to commit on the primary wrote, as bytes.
//
//   Byte    version (2; 1 is without the tables)
//   Int32   number of writes; for each: Byte flags (1 removes, 2 dirty), Int32 table,
//           Int32 length of the key, the key's bytes
//   Int32   number of suspect marks; for each: Int32 table, Int32 length, the reason
//   Int32   number of tables written as a whole; for each: Byte flags (1 removes), Int32 table,
//           Int32 length, the reason
//
// Integers are big-endian and unsigned.
#pragma once

#include <string>
#include <string_view>

#include "router/model/result.hpp"
#include "router/state/ledger.hpp"

namespace banyan::router {

std::string encode_journal_entry(const CommitIntent& intent);
/// An error if the bytes are damaged or of a version this program does not know.
Result<CommitIntent> decode_journal_entry(std::string_view bytes);

}  // namespace banyan::router
