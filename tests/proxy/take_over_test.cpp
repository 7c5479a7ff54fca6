#include "proxy/take_over.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>
#include <thread>

#include "proxy/descriptors.hpp"
#include "proxy/listen_sockets.hpp"

namespace banyan::proxy {
namespace {

using std::chrono::milliseconds;

class TakeOverTest : public testing::Test {
   protected:
    TakeOverTest() {
        std::string name = testing::TempDir() + "banyan-take-over-XXXXXX";
        directory_ = ::mkdtemp(name.data());
        config_.listen.port = 0;
        config_.listen.unix_socket_directory = directory_;
        config_.admin.port = 0;
    }
    ~TakeOverTest() override { std::filesystem::remove_all(directory_); }

    std::filesystem::path directory_;
    router::Config config_;
};

std::uint16_t port_of(int socket) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size), 0);
    return ntohs(address.sin_port);
}

TEST_F(TakeOverTest, WithoutAnOwnerItIsAPlainStart) {
    auto asked = TakeOver::ask(directory_);
    ASSERT_TRUE(asked);
    EXPECT_FALSE(*asked);
    { const auto left_behind = TakeOverDoor::open(directory_); }
    asked = TakeOver::ask(directory_);
    ASSERT_TRUE(asked);
    EXPECT_FALSE(*asked);
}

TEST_F(TakeOverTest, TheSocketsGoAcrossAndTheEndIsSeen) {
    auto door = TakeOverDoor::open(directory_);
    ASSERT_TRUE(door) << door.error().message;
    struct stat facts {};
    ASSERT_EQ(::stat(take_over_socket(directory_).c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777U, 0600U);
    auto own = open_listen_sockets(config_, {});
    ASSERT_TRUE(own) << own.error().message;
    const auto port = port_of(own->tcp.get());

    std::thread owner([&] {
        Descriptor peer;
        while (!peer.open()) {
            peer = door->accept();
        }
        auto request = receive_packet(peer.get(), milliseconds(5000));
        ASSERT_TRUE(request);
        EXPECT_EQ(request->text, "take-over 1");
        EXPECT_TRUE(send_packet(peer.get(), "sockets 1234", {own->local.get(), own->tcp.get()}));
        request = receive_packet(peer.get(), milliseconds(5000));
        ASSERT_TRUE(request);
        EXPECT_EQ(request->text, "mine");
    });
    auto asked = TakeOver::ask(directory_);
    ASSERT_TRUE(asked && *asked);
    // Whatever port it was bound to, port 0 takes it; the Unix socket is known by its path.
    auto taken = open_listen_sockets(config_, std::move((*asked)->sockets()));
    ASSERT_TRUE(taken) << taken.error().message;
    EXPECT_EQ(port_of(taken->tcp.get()), port);
    EXPECT_TRUE(taken->local.open());
    EXPECT_FALSE(taken->admin.open());
    EXPECT_TRUE((*asked)->confirm());
    EXPECT_TRUE((*asked)->wait());
    owner.join();
}

TEST_F(TakeOverTest, ARefusalIsAnErrorWithItsReason) {
    auto door = TakeOverDoor::open(directory_);
    ASSERT_TRUE(door);
    std::thread owner([&] {
        Descriptor peer;
        while (!peer.open()) {
            peer = door->accept();
        }
        receive_packet(peer.get(), milliseconds(5000));
        send_packet(peer.get(), "it is shutting down");
    });
    const auto asked = TakeOver::ask(directory_);
    ASSERT_FALSE(asked);
    EXPECT_NE(asked.error().message.find("it is shutting down"), std::string::npos);
    owner.join();
}

TEST_F(TakeOverTest, ASocketOfAnotherAddressIsNotTaken) {
    auto own = open_listen_sockets(config_, {});
    ASSERT_TRUE(own);
    const auto port = port_of(own->tcp.get());
    std::vector<Descriptor> inherited;
    inherited.push_back(std::move(own->tcp));
    auto elsewhere = config_;
    elsewhere.listen.host = "127.0.0.2";
    auto taken = open_listen_sockets(elsewhere, std::move(inherited));
    ASSERT_TRUE(taken) << taken.error().message;
    EXPECT_NE(port_of(taken->tcp.get()), port);
}

TEST(Descriptors, ClientsLeaveSomeAlone) {
    EXPECT_EQ(descriptors_to_reserve(64, 1), 16U);
    EXPECT_EQ(descriptors_to_reserve(1024, 1), 98U);
    EXPECT_EQ(descriptors_to_reserve(1'000'000, 4), 104U);
    router::Config config;
    config.limits.max_clients = 1000;
    EXPECT_EQ(too_few_descriptors(4096, config), "");
    EXPECT_NE(too_few_descriptors(1024, config).find("max_clients = 1000 can need 3098"),
              std::string::npos);
}

}  // namespace
}  // namespace banyan::proxy
