// The binary form of a row, as record_send() writes it. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "router/catalog/catalog.hpp"

namespace banyan::router {

/// One row: a value for each column that is not dropped, in attribute order. Views into the bytes.
struct CapturedRecord {
    std::vector<Oid> types;
    std::vector<std::optional<std::string_view>> values;  ///< binary; nullopt is NULL
};

/// False if the bytes are no such row (recordsend in PostgreSQL's rowtypes.c).
bool decode_record(std::string_view bytes, CapturedRecord& record);

/// True if the row has the table's columns: their number and their types.
bool fits(const CapturedRecord& record, const Table& table);

}  // namespace banyan::router
