#include "router/state/lock_file.hpp"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

namespace banyan::router {
namespace {

constexpr off_t lost_flag_offset = 64;

}  // namespace

LockFile::~LockFile() {
    if (fd_ >= 0) {
        ::close(fd_);
    }
}

Result<void> LockFile::take(const std::filesystem::path& directory) {
    const auto file = directory / "banyan.lock";
    fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd_ < 0) {
        return Error{"cannot write to the state directory " + directory.string() + ": " +
                         std::strerror(errno),
                     ""};
    }
    std::array<char, 65> text{};
    const ssize_t size = ::pread(fd_, text.data(), text.size(), 0);
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
        std::string pid(text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
        pid.resize(std::min(pid.find_first_of(std::string(" \n\0", 3)), pid.size()));
        return Error{"the state directory " + directory.string() +
                         " is in use by another banyan process (pid " + pid +
                         "); stop it first, or give this one a directory of its own",
                     ""};
    }
    lost_ = size > lost_flag_offset && text.at(lost_flag_offset) == 'L';
    // The file keeps this length, so that the flag can be set later without a free block.
    std::string content = std::to_string(::getpid());
    content.resize(static_cast<std::size_t>(lost_flag_offset), ' ');
    content += lost_ ? 'L' : '-';
    if (::pwrite(fd_, content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())) {
        return Error{"cannot write " + file.string() + ": " + std::strerror(errno), ""};
    }
    return {};
}

std::string LockFile::identity() const {
    struct stat about {};
    return ::fstat(fd_, &about) == 0
               ? std::to_string(about.st_dev) + ":" + std::to_string(about.st_ino)
               : "";
}

void LockFile::set_lost(bool lost) {
    const char flag = lost ? 'L' : '-';
    if (::pwrite(fd_, &flag, 1, lost_flag_offset) != 1) {
        spdlog::error("state: cannot note the lost journal in the lock file");
    }
}

}  // namespace banyan::router
