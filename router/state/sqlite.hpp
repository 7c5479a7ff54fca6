// The few lines of C++ that SQLite's C interface needs: prepared statements that reset themselves
// and errors as exceptions, which StateDb::submit() turns into a failed request.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace banyan::router::sqlite {

/// Throws std::runtime_error with SQLite's words for the connection's last error.
[[noreturn]] void fail(sqlite3* db, const std::string& what);

/// One or more statements without parameters or rows. Throws std::runtime_error.
void exec(sqlite3* db, const std::string& sql);

/// A prepared statement. One thread at a time; must die before its connection is closed.
class Statement {
   public:
    /// Throws std::runtime_error.
    Statement(sqlite3* db, std::string_view sql);

    /// Parameters count from 1. Texts and blobs are not copied: they must outlive the step.
    Statement& bind(int index, std::int64_t value);
    Statement& bind(int index, std::uint64_t value);
    Statement& bind(int index, std::uint32_t value);
    Statement& bind_text(int index, std::string_view value);
    Statement& bind_blob(int index, std::string_view value);

    /// True if there is a row. Throws std::runtime_error. After the last row it is reset.
    bool step();
    /// Steps to the end and resets, whatever happens.
    void run();
    void reset();

    /// Columns count from 0. Views last until the next step.
    std::int64_t number(int column) const;
    std::string_view bytes(int column) const;  ///< of a text or a blob
    std::string text(int column) const { return std::string(bytes(column)); }

   private:
    std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement_;
};

}  // namespace banyan::router::sqlite
