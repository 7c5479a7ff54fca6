#include "protocol/messages.hpp"

#include <charconv>

namespace banyan::protocol {

std::string_view Startup::get(std::string_view name) const {
    for (const auto& [key, value] : parameters) {
        if (key == name) {
            return value;
        }
    }
    return {};
}

void Startup::set(std::string_view name, std::string value) {
    for (auto& [key, old] : parameters) {
        if (key == name) {
            old = std::move(value);
            return;
        }
    }
    parameters.emplace_back(name, std::move(value));
}

std::optional<Startup> decode_startup(std::uint32_t version, std::string_view body) {
    Startup startup;
    startup.version = version;
    Reader reader(body);
    while (true) {
        const auto name = reader.string();
        if (!reader.ok()) {
            return std::nullopt;
        }
        if (name.empty()) {
            break;
        }
        const auto value = reader.string();
        if (!reader.ok()) {
            return std::nullopt;
        }
        startup.parameters.emplace_back(name, value);
    }
    return reader.done() ? std::optional(std::move(startup)) : std::nullopt;
}

void encode_startup(std::string& out, const Startup& startup) {
    std::string body;
    put_int32(body, startup.version);
    for (const auto& [name, value] : startup.parameters) {
        put_string(body, name);
        put_string(body, value);
    }
    body.push_back('\0');
    put_int32(out, static_cast<std::uint32_t>(body.size() + 4));
    out.append(body);
}

void encode_ssl_request(std::string& out) {
    put_int32(out, 8);
    put_int32(out, ssl_request_code);
}

void encode_cancel_request(std::string& out, std::uint32_t process_id, std::uint32_t secret_key) {
    put_int32(out, 16);
    put_int32(out, cancel_request_code);
    put_int32(out, process_id);
    put_int32(out, secret_key);
}

std::optional<Parse> decode_parse(std::string_view body) {
    Reader reader(body);
    Parse parse;
    parse.statement = reader.string();
    parse.query = reader.string();
    const auto count = reader.int16();
    if (!reader.ok() || reader.rest().size() != std::size_t{count} * 4) {
        return std::nullopt;
    }
    for (std::uint16_t i = 0; i < count; ++i) {
        parse.parameter_types.push_back(reader.int32());
    }
    return parse;
}

void encode_parse(std::string& out, std::string_view statement, std::string_view query,
                  const std::vector<std::uint32_t>& parameter_types) {
    Message message(out, 'P');
    message.string(statement).string(query).int16(
        static_cast<std::uint16_t>(parameter_types.size()));
    for (const auto type : parameter_types) {
        message.int32(type);
    }
}

std::uint16_t Bind::parameter_format(std::size_t i) const {
    if (parameter_formats.empty()) {
        return 0;
    }
    return parameter_formats.size() == 1 ? parameter_formats[0]
           : i < parameter_formats.size() ? parameter_formats[i]
                                          : std::uint16_t{0};
}

std::optional<Bind> decode_bind(std::string_view body) {
    Reader reader(body);
    Bind bind;
    bind.portal = reader.string();
    bind.statement = reader.string();
    const auto format_count = reader.int16();
    for (std::uint16_t i = 0; i < format_count && reader.ok(); ++i) {
        bind.parameter_formats.push_back(reader.int16());
    }
    const auto parameter_count = reader.int16();
    for (std::uint16_t i = 0; i < parameter_count && reader.ok(); ++i) {
        bind.parameters.push_back(reader.value());
    }
    const auto result_count = reader.int16();
    for (std::uint16_t i = 0; i < result_count && reader.ok(); ++i) {
        bind.result_formats.push_back(reader.int16());
    }
    return reader.done() ? std::optional(std::move(bind)) : std::nullopt;
}

void encode_bind(std::string& out, const Bind& bind) {
    Message message(out, 'B');
    message.string(bind.portal).string(bind.statement);
    message.int16(static_cast<std::uint16_t>(bind.parameter_formats.size()));
    for (const auto format : bind.parameter_formats) {
        message.int16(format);
    }
    message.int16(static_cast<std::uint16_t>(bind.parameters.size()));
    for (const auto& parameter : bind.parameters) {
        if (parameter) {
            message.int32(static_cast<std::uint32_t>(parameter->size())).bytes(*parameter);
        } else {
            message.int32(0xFFFFFFFFU);
        }
    }
    message.int16(static_cast<std::uint16_t>(bind.result_formats.size()));
    for (const auto format : bind.result_formats) {
        message.int16(format);
    }
}

std::optional<Execute> decode_execute(std::string_view body) {
    Reader reader(body);
    Execute execute;
    execute.portal = reader.string();
    execute.max_rows = reader.int32();
    return reader.done() ? std::optional(execute) : std::nullopt;
}

void encode_execute(std::string& out, std::string_view portal, std::uint32_t max_rows) {
    Message(out, 'E').string(portal).int32(max_rows);
}

std::optional<Named> decode_named(std::string_view body) {
    Reader reader(body);
    Named named;
    named.kind = static_cast<char>(reader.byte());
    named.name = reader.string();
    if (!reader.done() || (named.kind != 'S' && named.kind != 'P')) {
        return std::nullopt;
    }
    return named;
}

void encode_describe(std::string& out, char kind, std::string_view name) {
    Message(out, 'D').byte(kind).string(name);
}

void encode_close(std::string& out, char kind, std::string_view name) {
    Message(out, 'C').byte(kind).string(name);
}

void encode_query(std::string& out, std::string_view sql) { Message(out, 'Q').string(sql); }
void encode_sync(std::string& out) { Message(out, 'S'); }
void encode_flush(std::string& out) { Message(out, 'H'); }
void encode_terminate(std::string& out) { Message(out, 'X'); }
void encode_password(std::string& out, std::string_view password) {
    Message(out, 'p').string(password);
}

std::optional<std::vector<Field>> decode_row_description(std::string_view body) {
    Reader reader(body);
    std::vector<Field> fields;
    const auto count = reader.int16();
    for (std::uint16_t i = 0; i < count && reader.ok(); ++i) {
        Field field;
        field.name = reader.string();
        field.table = reader.int32();
        field.column = reader.int16();
        field.type = reader.int32();
        field.size = reader.int16();
        field.modifier = reader.int32();
        field.format = reader.int16();
        fields.push_back(field);
    }
    return reader.done() ? std::optional(std::move(fields)) : std::nullopt;
}

std::optional<std::string> strip_row_description(std::string_view body, std::size_t dropped) {
    Reader reader(body);
    const std::size_t count = reader.int16();
    if (!reader.ok() || count < dropped) {
        return std::nullopt;
    }
    const auto* start = reader.rest().data();
    const auto* end = start;
    for (std::size_t i = 0; i < count; ++i) {
        reader.string();
        reader.bytes(18);
        end = i + dropped < count ? reader.rest().data() : end;
    }
    if (!reader.done()) {
        return std::nullopt;
    }
    std::string out;
    {
        Message message(out, 'T');
        message.int16(static_cast<std::uint16_t>(count - dropped));
        message.bytes({start, static_cast<std::size_t>(end - start)});
    }
    return out;
}

bool split_data_row(std::string_view body, std::size_t captured_count, SplitRow& row) {
    Reader reader(body);
    const std::size_t count = reader.int16();
    if (!reader.ok() || count < captured_count) {
        return false;
    }
    const auto* start = reader.rest().data();
    row.kept_count = static_cast<std::uint16_t>(count - captured_count);
    for (std::size_t i = 0; i < row.kept_count; ++i) {
        reader.value();
    }
    row.kept = {start, static_cast<std::size_t>(reader.rest().data() - start)};
    row.captured.clear();
    for (std::size_t i = 0; i < captured_count; ++i) {
        row.captured.push_back(reader.value());
    }
    return reader.done();
}

bool decode_data_row(std::string_view body, std::vector<std::optional<std::string_view>>& columns) {
    Reader reader(body);
    const std::size_t count = reader.int16();
    columns.clear();
    for (std::size_t i = 0; i < count && reader.ok(); ++i) {
        columns.push_back(reader.value());
    }
    return reader.done();
}

std::vector<ErrorField> decode_error(std::string_view body) {
    std::vector<ErrorField> fields;
    Reader reader(body);
    while (reader.ok()) {
        const auto code = static_cast<char>(reader.byte());
        if (code == '\0') {
            break;
        }
        const auto value = reader.string();
        if (reader.ok()) {
            fields.push_back({code, value});
        }
    }
    return fields;
}

std::string_view error_field(const std::vector<ErrorField>& fields, char code) {
    for (const auto& field : fields) {
        if (field.code == code) {
            return field.value;
        }
    }
    return {};
}

void encode_error(std::string& out, std::string_view severity, std::string_view sqlstate,
                  std::string_view message, std::string_view hint,
                  std::string_view routine) {
    Message error(out, 'E');
    error.byte('S').string(severity).byte('V').string(severity).byte('C').string(sqlstate);
    error.byte('M').string(message);
    if (!hint.empty()) {
        error.byte('H').string(hint);
    }
    if (!routine.empty()) {
        error.byte('R').string(routine);
    }
    error.byte('\0');
}

void encode_error_shifted(std::string& out, char type, std::string_view body,
                          std::size_t characters) {
    Message error(out, type);
    for (const auto& field : decode_error(body)) {
        error.byte(field.code);
        std::size_t position = 0;
        const auto* end = field.value.data() + field.value.size();
        if (field.code == 'P' &&
            std::from_chars(field.value.data(), end, position).ec == std::errc()) {
            error.string(std::to_string(position + characters));
        } else {
            error.string(field.value);
        }
    }
    error.byte('\0');
}

void encode_ready_for_query(std::string& out, char status) { Message(out, 'Z').byte(status); }

void encode_backend_key_data(std::string& out, std::uint32_t process_id, std::uint32_t secret_key) {
    Message(out, 'K').int32(process_id).int32(secret_key);
}

void encode_no_data(std::string& out) { Message(out, 'n'); }

std::uint64_t rows_of_tag(std::string_view tag) {
    const auto space = tag.rfind(' ');
    std::uint64_t rows = 0;
    if (space != std::string_view::npos) {
        std::from_chars(tag.data() + space + 1, tag.data() + tag.size(), rows);
    }
    return rows;
}

std::string_view word_of_tag(std::string_view tag) { return tag.substr(0, tag.find(' ')); }

}  // namespace banyan::protocol
