// The messages Banyan reads or writes itself, decoded into views and encoded into strings. Names
// are the PostgreSQL manual's. Views live as long as the bytes they were decoded from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/wire.hpp"

namespace banyan::protocol {

// --- start of a connection (messages without a type byte) ---

inline constexpr std::uint32_t ssl_request_code = 80877103;
inline constexpr std::uint32_t gssenc_request_code = 80877104;
inline constexpr std::uint32_t cancel_request_code = 80877102;
inline constexpr std::uint32_t protocol_3_0 = 196608;
inline constexpr std::size_t max_startup_bytes = 10000;

struct Startup {
    std::uint32_t version = protocol_3_0;
    std::vector<std::pair<std::string, std::string>> parameters;

    /// Empty if absent.
    std::string_view get(std::string_view name) const;
    void set(std::string_view name, std::string value);
};

/// Decodes the body behind Int32 length and Int32 version. nullopt if malformed: the list must end
/// with a zero byte that is exactly the last byte.
std::optional<Startup> decode_startup(std::uint32_t version, std::string_view body);
void encode_startup(std::string& out, const Startup& startup);
void encode_ssl_request(std::string& out);
void encode_cancel_request(std::string& out, std::uint32_t process_id, std::uint32_t secret_key);

// --- client messages ---

struct Parse {
    std::string_view statement;
    std::string_view query;
    std::vector<std::uint32_t> parameter_types;
};
std::optional<Parse> decode_parse(std::string_view body);
void encode_parse(std::string& out, std::string_view statement, std::string_view query,
                  const std::vector<std::uint32_t>& parameter_types = {});

struct Bind {
    std::string_view portal;
    std::string_view statement;
    std::vector<std::uint16_t> parameter_formats;
    std::vector<std::optional<std::string_view>> parameters;
    std::vector<std::uint16_t> result_formats;

    /// The format code of parameter i, after the protocol's rules for short lists.
    std::uint16_t parameter_format(std::size_t i) const;
};
std::optional<Bind> decode_bind(std::string_view body);
void encode_bind(std::string& out, const Bind& bind);

struct Execute {
    std::string_view portal;
    std::uint32_t max_rows = 0;
};
std::optional<Execute> decode_execute(std::string_view body);
void encode_execute(std::string& out, std::string_view portal, std::uint32_t max_rows = 0);

/// Describe and Close: 'S' a statement, 'P' a portal.
struct Named {
    char kind = 'S';
    std::string_view name;
};
std::optional<Named> decode_named(std::string_view body);
void encode_describe(std::string& out, char kind, std::string_view name);
void encode_close(std::string& out, char kind, std::string_view name);

void encode_query(std::string& out, std::string_view sql);
void encode_sync(std::string& out);
void encode_flush(std::string& out);
void encode_terminate(std::string& out);
/// PasswordMessage, SASLInitialResponse and SASLResponse share type 'p'.
void encode_password(std::string& out, std::string_view password);

// --- server messages ---

struct Field {
    std::string_view name;
    std::uint32_t table = 0;
    std::uint16_t column = 0;
    std::uint32_t type = 0;
    std::uint16_t size = 0;
    std::uint32_t modifier = 0;
    std::uint16_t format = 0;
};
std::optional<std::vector<Field>> decode_row_description(std::string_view body);

/// RowDescription without its last `dropped` fields, format codes untouched.
/// nullopt if malformed or there are fewer fields.
std::optional<std::string> strip_row_description(std::string_view body, std::size_t dropped);

/// A DataRow split in two: the columns the client asked for and the captured ones behind them.
struct SplitRow {
    std::string_view kept;  ///< bytes of the kept columns, without the count
    std::uint16_t kept_count = 0;
    std::vector<std::optional<std::string_view>> captured;
};
/// Splits off the last `captured_count` columns into `row` (reused to save allocations). False if
/// malformed or there are fewer columns.
bool split_data_row(std::string_view body, std::size_t captured_count, SplitRow& row);
/// All columns of a DataRow. False if malformed.
bool decode_data_row(std::string_view body, std::vector<std::optional<std::string_view>>& columns);

struct ErrorField {
    char code = 0;
    std::string_view value;
};
/// ErrorResponse and NoticeResponse; fields that are damaged end the list.
std::vector<ErrorField> decode_error(std::string_view body);
std::string_view error_field(const std::vector<ErrorField>& fields, char code);
/// ErrorResponse of Banyan's own: severity, SQLSTATE, message, optional hint.
void encode_error(std::string& out, std::string_view severity, std::string_view sqlstate,
                  std::string_view message, std::string_view hint = {},
                  std::string_view routine = {});
/// The same ErrorResponse with its position field moved by `characters`.
void encode_error_shifted(std::string& out, char type, std::string_view body,
                          std::size_t characters);

void encode_ready_for_query(std::string& out, char status);
void encode_backend_key_data(std::string& out, std::uint32_t process_id, std::uint32_t secret_key);
void encode_no_data(std::string& out);

/// "INSERT 0 5" -> 5; 0 if the tag has no count.
std::uint64_t rows_of_tag(std::string_view tag);
/// The first word of a command tag.
std::string_view word_of_tag(std::string_view tag);

}  // namespace banyan::protocol
