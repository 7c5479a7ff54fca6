// Result<T>: a value or an Error. What a peer, a file or an operator can cause is a Result, never
// an exception.
#pragma once

#include <boost/system/result.hpp>
#include <stdexcept>
#include <string>
#include <utility>

namespace banyan {

/// Why something failed. `sqlstate` is PostgreSQL's five characters where a server said so,
/// otherwise empty.
struct Error {
    std::string message;
    std::string sqlstate;
};

[[noreturn]] inline void throw_exception_from_error(const Error& error,
                                                    const boost::source_location&) {
    throw std::runtime_error(error.message);
}

template <class T>
using Result = boost::system::result<T, Error>;

}  // namespace banyan

/// Evaluates a Result expression; on failure returns its Error from the enclosing function.
#define BANYAN_TRY(expression)                         \
    do {                                               \
        if (auto banyan_try_ = (expression); !banyan_try_) { \
            return std::move(banyan_try_).error();     \
        }                                              \
    } while (false)
