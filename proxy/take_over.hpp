// How one Banyan process takes the place of another without refusing a connection: through a Unix
// socket in the state directory (banyan.take-over, mode 0600) the newcomer asks the owner of the
// state for its listening sockets, and waits until the owner has drained and is gone.
//
//   newcomer                              owner
//   "take-over 1"                   ->
//                                   <-    "sockets DRAIN_MS" and the descriptors, or "refused WHY"
//   (checks, binds what is missing)
//   "mine"                          ->    accepts nobody any more, drains, closes the state, ends
//                                   <-    end of file: the state is free
//
// Until "mine" nothing has changed. The newcomer's end of file afterwards calls the handover off.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "proxy/descriptors.hpp"
#include "router/model/result.hpp"

namespace banyan::proxy {

/// One packet, with descriptors.
struct Packet {
    std::string text;
    std::vector<Descriptor> descriptors;
};
/// False: the peer is gone, or not taking packets.
bool send_packet(int socket, const std::string& text, const std::vector<int>& descriptors = {});
/// Waits at most `patience`. nullopt: the peer is gone, or says nothing.
std::optional<Packet> receive_packet(int socket, std::chrono::milliseconds patience);

std::filesystem::path take_over_socket(const std::filesystem::path& state_directory);

/// The owner's end.
class TakeOverDoor {
   public:
    /// The caller owns the state directory: what lies there was left behind.
    static Result<TakeOverDoor> open(const std::filesystem::path& state_directory);
    ~TakeOverDoor();
    TakeOverDoor(TakeOverDoor&&) = default;
    TakeOverDoor& operator=(TakeOverDoor&&) = delete;

    int handle() const { return socket_.get(); }
    /// Who knocks, if that is the same user or root.
    Descriptor accept() const;

   private:
    TakeOverDoor(Descriptor socket, std::filesystem::path file)
        : socket_(std::move(socket)), file_(std::move(file)) {}
    Descriptor socket_;
    std::filesystem::path file_;
};

/// The newcomer's end.
class TakeOver {
   public:
    /// nullopt: no process answers there, so that this is a plain start. An Error: it refuses.
    static Result<std::optional<TakeOver>> ask(const std::filesystem::path& state_directory);

    std::vector<Descriptor>& sockets() { return sockets_; }
    /// From here on the owner drains. False: it is gone.
    bool confirm();
    /// Waits until the owner is gone. An Error: it still has the state when it should long have
    /// been; dropping this calls the handover off.
    Result<void> wait();

   private:
    Descriptor peer_;
    std::vector<Descriptor> sockets_;
    std::chrono::milliseconds drain_{0};
};

}  // namespace banyan::proxy
