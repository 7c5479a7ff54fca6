#include "router/state/sqlite.hpp"

#include <stdexcept>

namespace banyan::router::sqlite {

void fail(sqlite3* db, const std::string& what) {
    throw std::runtime_error(what + ": " + sqlite3_errmsg(db));
}

void exec(sqlite3* db, const std::string& sql) {
    if (sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
        fail(db, sql.substr(0, 60));
    }
}

Statement::Statement(sqlite3* db, std::string_view sql) : statement_(nullptr, &sqlite3_finalize) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v3(db, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                           &statement, nullptr) != SQLITE_OK) {
        fail(db, std::string(sql.substr(0, 60)));
    }
    statement_.reset(statement);
}

Statement& Statement::bind(int index, std::int64_t value) {
    sqlite3_bind_int64(statement_.get(), index, value);
    return *this;
}

Statement& Statement::bind(int index, std::uint64_t value) {
    return bind(index, static_cast<std::int64_t>(value));
}

Statement& Statement::bind(int index, std::uint32_t value) {
    return bind(index, static_cast<std::int64_t>(value));
}

Statement& Statement::bind_text(int index, std::string_view value) {
    sqlite3_bind_text64(statement_.get(), index, value.data() == nullptr ? "" : value.data(),
                        value.size(), SQLITE_STATIC, SQLITE_UTF8);
    return *this;
}

Statement& Statement::bind_blob(int index, std::string_view value) {
    // A null pointer would bind NULL instead of an empty blob.
    sqlite3_bind_blob64(statement_.get(), index, value.data() == nullptr ? "" : value.data(),
                        value.size(), SQLITE_STATIC);
    return *this;
}

bool Statement::step() {
    switch (sqlite3_step(statement_.get())) {
        case SQLITE_ROW:
            return true;
        case SQLITE_DONE:
            sqlite3_reset(statement_.get());
            return false;
        default: {
            sqlite3* db = sqlite3_db_handle(statement_.get());
            const std::string why = sqlite3_errmsg(db);
            sqlite3_reset(statement_.get());
            throw std::runtime_error(why);
        }
    }
}

void Statement::run() {
    while (step()) {
    }
}

void Statement::reset() {
    sqlite3_reset(statement_.get());
}

std::int64_t Statement::number(int column) const {
    return sqlite3_column_int64(statement_.get(), column);
}

std::string_view Statement::bytes(int column) const {
    const void* data = sqlite3_column_blob(statement_.get(), column);
    const int size = sqlite3_column_bytes(statement_.get(), column);
    return data == nullptr
               ? std::string_view{}
               : std::string_view(static_cast<const char*>(data), static_cast<std::size_t>(size));
}

}  // namespace banyan::router::sqlite
