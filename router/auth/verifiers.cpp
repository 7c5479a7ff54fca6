#include "router/auth/verifiers.hpp"

#include <poll.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace banyan::router {
namespace {

using namespace std::chrono_literals;

constexpr auto answer_timeout = 2s;
constexpr std::size_t max_waiting = 20'000;

struct ResultClearer {
    void operator()(PGresult* result) const { PQclear(result); }
};
using ResultPtr = std::unique_ptr<PGresult, ResultClearer>;

/// The query's result, or why there is none. A server that hangs is given up.
Result<ResultPtr> ask(PGconn* conn, const std::string& user) {
    const char* value = user.c_str();
    if (PQsendQueryParams(conn, "SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1",
                          1, nullptr, &value, nullptr, nullptr, 0) != 1) {
        return Error{PQerrorMessage(conn), ""};
    }
    const auto deadline = std::chrono::steady_clock::now() + answer_timeout;
    ResultPtr last;
    while (true) {
        while (PQisBusy(conn) == 0) {
            ResultPtr result(PQgetResult(conn));
            if (!result) {
                return last;
            }
            last = std::move(result);
        }
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
                              deadline - std::chrono::steady_clock::now())
                              .count();
        pollfd waiting{PQsocket(conn), POLLIN, 0};
        if (left <= 0 || (::poll(&waiting, 1, static_cast<int>(left)) < 0 && errno != EINTR)) {
            return Error{"no answer in time", ""};
        }
        if (PQconsumeInput(conn) != 1) {
            return Error{PQerrorMessage(conn), ""};
        }
    }
}

std::string one_line(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.pop_back();
    }
    return text;
}

}  // namespace

class Verifiers::Reader {
   public:
    using Deliver = std::function<void(const RoleVerifiers::OneSide&)>;

    Reader(Side side, Endpoint endpoint)
        : side_(side), endpoint_(std::move(endpoint)), thread_([this] { work(); }) {}
    ~Reader() { stop(); }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    void request(const std::string& user, Deliver deliver) {
        {
            const std::lock_guard lock(mutex_);
            if (!stopping_ && waiting_.size() < max_waiting) {
                waiting_[user].push_back(std::move(deliver));
                wake_.notify_one();
                return;
            }
        }
        RoleVerifiers::OneSide refused;
        refused.error = "too many logins are waiting";
        deliver(refused);
    }

    void stop() {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
            wake_.notify_one();
        }
        if (thread_.joinable()) {
            thread_.join();
        }
    }

   private:
    void work() {
        std::unique_lock lock(mutex_);
        while (true) {
            wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
            if (stopping_) {
                return;
            }
            auto batch = std::exchange(waiting_, {});
            lock.unlock();
            std::string broken;  // once the server is found to be gone, nobody else waits for that
            for (auto& [user, deliveries] : batch) {
                const auto answer = broken.empty() ? read(user, broken) : failure(broken);
                for (auto& deliver : deliveries) {
                    deliver(answer);
                }
            }
            lock.lock();
        }
    }

    RoleVerifiers::OneSide failure(const std::string& why) {
        RoleVerifiers::OneSide answer;
        answer.error = why;
        return answer;
    }

    RoleVerifiers::OneSide read(const std::string& user, std::string& broken) {
        // A kept connection may have died since: then once more on a new one.
        for (bool kept = connection_.has_value();; kept = false) {
            if (!connection_) {
                auto opened = Connection::open(endpoint_, "banyan-verifiers");
                if (!opened) {
                    broken = one_line(opened.error().message);
                    return told(failure(broken));
                }
                connection_.emplace(std::move(*opened));
            }
            const auto result = ask(connection_->raw(), user);
            if (result && *result && PQresultStatus(result->get()) == PGRES_TUPLES_OK) {
                return told(one_role(result->get()));
            }
            std::string why = !result   ? result.error().message
                              : *result ? PQresultErrorMessage(result->get())
                                        : PQerrorMessage(connection_->raw());
            why = one_line(std::move(why));
            if (result && connection_->alive()) {
                return told(failure(why));  // the server said no
            }
            connection_.reset();
            if (!kept) {
                broken = why;
                return told(failure(why));
            }
        }
    }

    static RoleVerifiers::OneSide one_role(const PGresult* result) {
        RoleVerifiers::OneSide answer;
        answer.readable = true;
        if (PQntuples(result) == 1 && PQgetisnull(result, 0, 0) == 0) {
            answer.text.emplace(std::string_view(
                PQgetvalue(result, 0, 0), static_cast<std::size_t>(PQgetlength(result, 0, 0))));
        }
        return answer;
    }

    /// Says in the log what has changed, not every time.
    RoleVerifiers::OneSide told(RoleVerifiers::OneSide answer) {
        if (answer.error != last_error_) {
            last_error_ = answer.error;
            if (!answer.readable) {
                spdlog::warn(
                    "the SCRAM verifiers of the {} cannot be read as \"{}\": {}; logins with "
                    "recovered SCRAM keys, and of clients on TLS to a server on TLS, do not work",
                    to_string(side_), endpoint_.user, answer.error);
            }
        }
        return answer;
    }

    const Side side_;
    const Endpoint endpoint_;
    std::optional<Connection> connection_;
    std::string last_error_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::unordered_map<std::string, std::vector<Deliver>> waiting_;
    bool stopping_ = false;
    std::thread thread_;  // last: it uses all of the above
};

Verifiers::Verifiers(const Config& config)
    : readers_{std::make_unique<Reader>(Side::source, config.source),
               std::make_unique<Reader>(Side::target, config.target)} {}

Verifiers::~Verifiers() = default;

void Verifiers::stop() {
    for (auto& reader : readers_) {
        reader->stop();
    }
}

void Verifiers::request(const std::string& user, std::optional<Side> only, Answer answer) {
    struct Gathering {
        std::mutex mutex;
        std::shared_ptr<RoleVerifiers> both = std::make_shared<RoleVerifiers>();
        std::size_t missing = 0;
        Answer answer;
    };
    auto gathering = std::make_shared<Gathering>();
    gathering->answer = std::move(answer);
    gathering->missing = only ? 1 : 2;
    for (const Side side : {Side::source, Side::target}) {
        if (only && *only != side) {
            gathering->both->of(side).error = "not asked";
            continue;
        }
        readers_[static_cast<std::size_t>(side)]->request(
            user, [gathering, side](const RoleVerifiers::OneSide& one) {
                {
                    const std::lock_guard lock(gathering->mutex);
                    auto& to = gathering->both->of(side);
                    to.readable = one.readable;
                    to.error = one.error;
                    to.text = one.text ? std::optional(one.text->copy()) : std::nullopt;
                    if (--gathering->missing > 0) {
                        return;
                    }
                }
                gathering->answer(gathering->both);
            });
    }
}

}  // namespace banyan::router
