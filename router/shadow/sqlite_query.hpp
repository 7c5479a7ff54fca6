// A prepared SQLite statement with typed binds and columns, for work handed to StateDb. Throws
// std::runtime_error, which is what StateDb::submit() asks of failing work.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace banyan::router {

class SqliteQuery {
   public:
    SqliteQuery(sqlite3* db, std::string_view sql) : db_(db) {
        sqlite3_stmt* statement = nullptr;
        if (sqlite3_prepare_v2(db, sql.data(), static_cast<int>(sql.size()), &statement, nullptr) !=
            SQLITE_OK) {
            fail();
        }
        statement_.reset(statement);
    }
    /// Binds $1, $2, ... in the order of the calls.
    SqliteQuery& bind(std::string_view text) {
        check(sqlite3_bind_text(statement_.get(), ++bound_, text.data(),
                                static_cast<int>(text.size()),
                                SQLITE_TRANSIENT));  // NOLINT
        return *this;
    }
    SqliteQuery& bind(std::int64_t number) {
        check(sqlite3_bind_int64(statement_.get(), ++bound_, number));
        return *this;
    }
    /// True if there is a (further) row.
    bool step() {
        const int code = sqlite3_step(statement_.get());
        if (code != SQLITE_ROW && code != SQLITE_DONE) {
            fail();
        }
        return code == SQLITE_ROW;
    }
    /// Runs a statement whose rows nobody wants.
    void run() {
        while (step()) {
        }
    }
    std::string text(int column) {
        const auto* bytes = sqlite3_column_text(statement_.get(), column);
        return bytes == nullptr
                   ? std::string()
                   : std::string(
                         static_cast<const char*>(static_cast<const void*>(bytes)),
                         static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column)));
    }
    bool null(int column) {
        return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
    }
    std::int64_t number(int column) { return sqlite3_column_int64(statement_.get(), column); }

   private:
    [[noreturn]] void fail() const { throw std::runtime_error(sqlite3_errmsg(db_)); }
    void check(int code) const {
        if (code != SQLITE_OK) {
            fail();
        }
    }
    sqlite3* db_;
    std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement_{nullptr, &sqlite3_finalize};
    int bound_ = 0;
};

}  // namespace banyan::router
