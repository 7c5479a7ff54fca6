// A file that holds some room on the state directory's disk. When a start finds the disk full it is
// given up, so that the state database can be opened, and clients are served, before anybody has
// made room.
#pragma once

#include <cstdint>
#include <filesystem>

namespace banyan::router {

class DiskReserve {
   public:
    static constexpr std::uint64_t bytes = std::uint64_t{1} << 20U;

    explicit DiskReserve(const std::filesystem::path& directory)
        : directory_(directory), file_(directory / "banyan.reserve") {}

    /// Makes it if there is room for it twice; on failure there is none.
    void keep() const;
    /// False: there was none.
    bool give_up() const;
    /// There is too little left for a database to be written.
    bool disk_is_full() const;

   private:
    std::uint64_t available() const;

    std::filesystem::path directory_;
    std::filesystem::path file_;
};

}  // namespace banyan::router
