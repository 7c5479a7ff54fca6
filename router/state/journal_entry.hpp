// One journal entry: what a transaction about to commit on the primary wrote, as bytes.
//
//   Byte    version (3; 2 is without ranges, 1 without the tables too)
//   Int32   number of writes; for each: Byte flags (1 removes, 2 dirty), Int32 table,
//           Int32 length of the key, the key's bytes
//   Int32   number of suspect marks; for each: Int32 table, Int32 length, the reason, ranges
//   Int32   number of tables written as a whole; for each: Byte flags (1 removes, 2 by row),
//           Int32 table, Int32 length, the reason, ranges
//
// Ranges are Int32 length, then nothing (every row), or: Int32 type, Int32 number; for each: Int32
// length, the low bound, Int32 length, the high bound. Integers are big-endian and unsigned.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "router/model/result.hpp"
#include "router/state/ledger.hpp"

namespace banyan::router {

std::string encode_journal_entry(const CommitIntent& intent);
/// An error if the bytes are damaged or of a version this program does not know.
Result<CommitIntent> decode_journal_entry(std::string_view bytes);

/// Without the length in front.
std::string encode_key_ranges(const KeyRanges& ranges);
/// nullopt if the bytes are damaged.
std::optional<KeyRanges> decode_key_ranges(std::string_view bytes);

}  // namespace banyan::router
