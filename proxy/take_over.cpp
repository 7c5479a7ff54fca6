#include "proxy/take_over.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace banyan::proxy {
namespace {

constexpr std::size_t most_descriptors = 8;
constexpr std::size_t most_bytes = 512;
constexpr std::chrono::milliseconds answer_patience{5000};
/// For what comes after the drain: workers end, the state is closed.
constexpr std::chrono::milliseconds ending_patience{60000};

std::optional<sockaddr_un> address_of(const std::filesystem::path& file) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const auto path = file.string();
    if (path.size() >= sizeof address.sun_path) {
        return std::nullopt;
    }
    path.copy(address.sun_path, path.size());
    return address;
}

bool same_user(int socket) {
    ucred peer{};
    socklen_t size = sizeof peer;
    return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == ::geteuid() || peer.uid == 0);
}

}  // namespace

bool send_packet(int socket, const std::string& text, const std::vector<int>& descriptors) {
    iovec bytes{const_cast<char*>(text.data()), text.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * most_descriptors)> control{};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    if (!descriptors.empty() && descriptors.size() <= most_descriptors) {
        const auto size = sizeof(int) * descriptors.size();
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(size);
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(size);
        std::memcpy(CMSG_DATA(header), descriptors.data(), size);
    }
    return ::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

std::optional<Packet> receive_packet(int socket, std::chrono::milliseconds patience) {
    pollfd waiting{socket, POLLIN, 0};
    int ready = 0;
    do {
        ready = ::poll(&waiting, 1, static_cast<int>(patience.count()));
    } while (ready < 0 && errno == EINTR);
    if (ready <= 0) {
        return std::nullopt;
    }
    std::array<char, most_bytes> bytes{};
    iovec into{bytes.data(), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * most_descriptors)> control{};
    msghdr message{};
    message.msg_iov = &into;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const auto got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got <= 0) {
        return std::nullopt;
    }
    Packet packet{{bytes.data(), static_cast<std::size_t>(got)}, {}};
    for (auto* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const auto count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        std::array<int, most_descriptors> handles{};
        std::memcpy(handles.data(), CMSG_DATA(header), count * sizeof(int));
        for (std::size_t i = 0; i < count; ++i) {
            packet.descriptors.emplace_back(handles.at(i));
        }
    }
    return packet;
}

std::filesystem::path take_over_socket(const std::filesystem::path& state_directory) {
    return state_directory / "banyan.take-over";
}

Result<TakeOverDoor> TakeOverDoor::open(const std::filesystem::path& state_directory) {
    const auto file = take_over_socket(state_directory);
    const auto failed = [&](const std::string& why) {
        return Error{"cannot listen on " + file.string() + ": " + why, ""};
    };
    const auto address = address_of(file);
    if (!address) {
        return failed("the path is longer than the system allows (107 bytes)");
    }
    ::unlink(file.c_str());
    Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // Nobody can connect before listen(): the mode is right from the beginning.
    if (!socket.open() ||
        ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0 ||
        ::chmod(file.c_str(), S_IRUSR | S_IWUSR) != 0 || ::listen(socket.get(), 4) != 0) {
        return failed(std::strerror(errno));
    }
    return TakeOverDoor(std::move(socket), file);
}

TakeOverDoor::~TakeOverDoor() {
    if (socket_.open()) {
        ::unlink(file_.c_str());
    }
}

Descriptor TakeOverDoor::accept() const {
    Descriptor peer(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return peer.open() && same_user(peer.get()) ? std::move(peer) : Descriptor();
}

Result<std::optional<TakeOver>> TakeOver::ask(const std::filesystem::path& state_directory) {
    const auto address = address_of(take_over_socket(state_directory));
    TakeOver taken;
    taken.peer_ = Descriptor(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!address || !taken.peer_.open() ||
        ::connect(taken.peer_.get(), reinterpret_cast<const sockaddr*>(&*address),
                  sizeof *address) != 0 ||
        !send_packet(taken.peer_.get(), "take-over 1")) {
        return std::optional<TakeOver>();
    }
    auto answer = receive_packet(taken.peer_.get(), answer_patience);
    if (!answer) {
        return std::optional<TakeOver>();
    }
    if (!answer->text.starts_with("sockets ")) {
        return Error{"the running banyan process does not hand over: " + answer->text, ""};
    }
    taken.drain_ = std::chrono::milliseconds(std::atoll(answer->text.c_str() + 8));
    taken.sockets_ = std::move(answer->descriptors);
    return std::optional<TakeOver>(std::move(taken));
}

bool TakeOver::confirm() {
    return send_packet(peer_.get(), "mine");
}

Result<void> TakeOver::wait() {
    // It says nothing more; what comes is its end.
    pollfd waiting{peer_.get(), POLLIN, 0};
    const auto end = std::chrono::steady_clock::now() + drain_ + ending_patience;
    while (true) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            end - std::chrono::steady_clock::now());
        const int ready =
            ::poll(&waiting, 1, static_cast<int>(std::max<std::int64_t>(0, left.count())));
        if (ready > 0) {
            return {};
        }
        if (ready == 0) {
            return Error{"the running banyan process still has the state directory", ""};
        }
    }
}

}  // namespace banyan::proxy
