#include "router/state/disk_reserve.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <limits>
#include <system_error>

namespace banyan::router {

std::uint64_t DiskReserve::available() const {
    std::error_code code;
    const auto space = std::filesystem::space(directory_, code);
    return code ? std::numeric_limits<std::uint64_t>::max() : space.available;
}

bool DiskReserve::disk_is_full() const {
    return available() < bytes / 8;
}

void DiskReserve::keep() const {
    std::error_code code;
    if (std::filesystem::exists(file_, code) || code || available() < 2 * bytes) {
        return;
    }
    const int fd = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return;
    }
    const bool kept = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes)) == 0;
    ::close(fd);
    if (!kept) {
        give_up();
    }
}

bool DiskReserve::give_up() const {
    std::error_code code;
    return std::filesystem::remove(file_, code) && !code;
}

}  // namespace banyan::router
