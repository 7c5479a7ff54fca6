// PBKDF2 away from the event loops: a few worker threads, and a memory of what was derived already,
// since a thousand sessions of one role ask for the same.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "protocol/scram.hpp"

namespace banyan::router {

class KeyDeriver {
   public:
    /// Called once, on any thread, also before derive() returns. Null: too much is waiting.
    using Answer = std::function<void(std::shared_ptr<const protocol::Secret>)>;

    explicit KeyDeriver(std::size_t threads = 2);
    ~KeyDeriver();
    KeyDeriver(const KeyDeriver&) = delete;
    KeyDeriver& operator=(const KeyDeriver&) = delete;

    /// salt_password(); does not block; any thread.
    void derive(const protocol::Secret& password, std::string salt, std::uint32_t iterations,
                Answer answer);
    /// Ends the threads; what was not answered never is.
    void stop();
    /// How often PBKDF2 has really run.
    std::uint64_t derivations() const;

   private:
    struct Job {
        std::string key;
        protocol::Secret password;
        std::string salt;
        std::uint32_t iterations = 0;
    };
    void work();

    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Job> jobs_;
    std::unordered_map<std::string, std::vector<Answer>> waiting_;  ///< by Job::key
    std::unordered_map<std::string, std::shared_ptr<const protocol::Secret>> known_;
    std::uint64_t derivations_ = 0;
    bool stopping_ = false;
    std::vector<std::thread> threads_;  // last: they use all of the above
};

}  // namespace banyan::router
