#include "router/auth/key_deriver.hpp"

#include <openssl/evp.h>

#include <array>
#include <utility>

namespace banyan::router {
namespace {

constexpr std::size_t max_jobs = 1024;
constexpr std::size_t max_known = 4096;

// One for each password, salt and number of iterations: a hash, so that the table's keys give
// nothing away.
std::string key_of(const protocol::Secret& password, const std::string& salt,
                   std::uint32_t iterations) {
    const std::string rest =
        std::to_string(password.size()) + ":" + std::to_string(iterations) + ":" + salt;
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    EVP_DigestInit_ex(context, EVP_sha256(), nullptr);
    EVP_DigestUpdate(context, password.data(), password.size());
    EVP_DigestUpdate(context, rest.data(), rest.size());
    EVP_DigestFinal_ex(context, digest.data(), &size);
    EVP_MD_CTX_free(context);
    return {reinterpret_cast<const char*>(digest.data()), size};
}

}  // namespace

KeyDeriver::KeyDeriver(std::size_t threads) {
    for (std::size_t i = 0; i < threads; ++i) {
        threads_.emplace_back([this] { work(); });
    }
}

KeyDeriver::~KeyDeriver() {
    stop();
}

void KeyDeriver::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) {
        if (thread.joinable()) {
            thread.join();
        }
    }
}

std::uint64_t KeyDeriver::derivations() const {
    const std::lock_guard lock(mutex_);
    return derivations_;
}

void KeyDeriver::derive(const protocol::Secret& password, std::string salt,
                        std::uint32_t iterations, Answer answer) {
    auto key = key_of(password, salt, iterations);
    std::shared_ptr<const protocol::Secret> known;
    {
        const std::lock_guard lock(mutex_);
        if (const auto found = known_.find(key); found != known_.end()) {
            known = found->second;
        } else if (const auto others = waiting_.find(key); others != waiting_.end()) {
            others->second.push_back(std::move(answer));
            return;
        } else if (!stopping_ && jobs_.size() < max_jobs) {
            waiting_[key].push_back(std::move(answer));
            jobs_.push_back({std::move(key), password.copy(), std::move(salt), iterations});
            wake_.notify_one();
            return;
        }
    }
    answer(std::move(known));
}

void KeyDeriver::work() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (stopping_) {
            return;
        }
        Job job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        auto salted = std::make_shared<const protocol::Secret>(
            protocol::salt_password(job.password, job.salt, job.iterations));
        lock.lock();
        ++derivations_;
        if (known_.size() >= max_known) {
            known_.clear();
        }
        known_[job.key] = salted;
        const auto answers = std::move(waiting_[job.key]);
        waiting_.erase(job.key);
        lock.unlock();
        for (const auto& answer : answers) {
            answer(salted);
        }
        lock.lock();
    }
}

}  // namespace banyan::router
