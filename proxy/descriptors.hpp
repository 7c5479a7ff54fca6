// File descriptors as a resource that runs out. Clients and their connections to the databases may
// use all but the last few; those are for the state database, the workers and the admin API, so
// that the journal never fails for lack of one.
#pragma once

#include <cstddef>
#include <string>

#include "router/config/config.hpp"

namespace banyan::proxy {

/// A descriptor that is closed when its owner goes.
class Descriptor {
   public:
    Descriptor() = default;
    explicit Descriptor(int handle) : handle_(handle) {}
    ~Descriptor();
    Descriptor(Descriptor&& other) noexcept : handle_(other.release()) {}
    Descriptor& operator=(Descriptor&& other) noexcept;
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    int get() const { return handle_; }
    bool open() const { return handle_ >= 0; }
    int release() {
        const int handle = handle_;
        handle_ = -1;
        return handle;
    }

   private:
    int handle_ = -1;
};

/// How many of `limit` descriptors clients must leave alone.
std::size_t descriptors_to_reserve(std::size_t limit, std::size_t backfill_workers);
/// Empty if max_clients fit into `limit`, with a connection to each side for each of them;
/// otherwise what to do about it.
std::string too_few_descriptors(std::size_t limit, const router::Config& config);

/// Raises the soft limit of open files to the hard one, reserves, and logs what does not fit. Once,
/// at start.
void raise_descriptor_limit(const router::Config& config);
/// True for a descriptor out of the reserve: the system gives out the lowest free number, so this
/// one says that all below are in use. Thread-safe.
bool is_reserved_descriptor(int handle);

}  // namespace banyan::proxy
