#include "admin/server.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "admin/auth.hpp"
#include "tests/admin/fake_control.hpp"

namespace banyan::admin {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

/// A bare socket, so that the tests decide how bytes are cut.
class Client {
   public:
    explicit Client(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connected_ =
            ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    }
    ~Client() { ::close(fd_); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    bool connected() const { return connected_; }
    void send(std::string_view text) const {
        while (!text.empty()) {
            const auto n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
            if (n <= 0) {
                return;
            }
            text.remove_prefix(static_cast<std::size_t>(n));
        }
    }
    /// One response by its Content-Length, or what came until the end of the stream.
    std::string response(bool head = false) {
        for (;;) {
            const auto end = buffer_.find("\r\n\r\n");
            if (end != std::string::npos) {
                const auto at = buffer_.find("Content-Length: ");
                const std::size_t length =
                    head || at > end ? 0 : std::stoul(buffer_.substr(at + 16));
                if (buffer_.size() >= end + 4 + length) {
                    std::string one = buffer_.substr(0, end + 4 + length);
                    buffer_.erase(0, one.size());
                    return one;
                }
            }
            if (!receive()) {
                return std::exchange(buffer_, "");
            }
        }
    }
    /// What comes up to this text, it included; less if the stream ends or nothing comes for long.
    std::string until(std::string_view text) {
        for (;;) {
            if (const auto at = buffer_.find(text); at != std::string::npos) {
                std::string one = buffer_.substr(0, at + text.size());
                buffer_.erase(0, one.size());
                return one;
            }
            if (!receive()) {
                return std::exchange(buffer_, "");
            }
        }
    }
    /// True if the server closes within five seconds.
    bool closed() {
        while (receive()) {
        }
        return eof_;
    }

   private:
    bool receive() {
        pollfd wait{fd_, POLLIN, 0};
        if (::poll(&wait, 1, 5000) != 1) {
            return false;
        }
        char bytes[4096];
        const auto n = ::recv(fd_, bytes, sizeof bytes, 0);
        if (n <= 0) {
            eof_ = true;
            return false;
        }
        buffer_.append(bytes, static_cast<std::size_t>(n));
        return true;
    }

    int fd_;
    bool connected_ = false;
    bool eof_ = false;
    std::string buffer_;
};

class AdminServer : public testing::Test {
   protected:
    void start(bool tokens = true) {
        config_.admin.port = 0;
        if (tokens) {
            config_.admin.tokens = {{"olga", sha256_hex("secret"), "operator"}};
        }
        auto started = Server::start(config_, control_, counters_, limits_);
        ASSERT_TRUE(started) << started.error().message;
        server_ = std::move(*started);
    }
    static std::string get(const std::string& path, const std::string& more = "") {
        return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n" +
               more + "\r\n";
    }
    static std::string post(const std::string& path, const std::string& body,
                            const std::string& more = "Authorization: Bearer secret\r\n") {
        return "POST " + path +
               " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + more +
               "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    }

    router::Config config_;
    ServerLimits limits_;
    FakeControl control_;
    FakeCounters counters_;
    std::unique_ptr<Server> server_;
};

TEST_F(AdminServer, answers_and_keeps_the_connection) {
    start();
    Client client(server_->port());
    for (int i = 0; i < 3; ++i) {
        client.send(get("/api/v1/phase"));
        const std::string response = client.response();
        EXPECT_THAT(response, StartsWith("HTTP/1.1 200 OK\r\n"));
        EXPECT_THAT(response, AllOf(HasSubstr("Content-Type: application/json\r\n"),
                                    HasSubstr("\"phase\":\"INITIAL\""),
                                    HasSubstr("Content-Security-Policy")));
    }
    client.send(get("/api/v1/phase", "Connection: close\r\n"));
    EXPECT_THAT(client.response(), HasSubstr("Connection: close"));
    EXPECT_TRUE(client.closed());
}

TEST_F(AdminServer, takes_a_request_in_single_bytes) {
    start();
    Client client(server_->port());
    const std::string request =
        post("/api/v1/transitions", R"({"from":"INITIAL","to":"DUAL_WRITE","reason":"r"})");
    for (const char c : request) {
        client.send({&c, 1});
    }
    const std::string response = client.response();
    EXPECT_THAT(response, StartsWith("HTTP/1.1 202 Accepted\r\n"));
    EXPECT_THAT(response, HasSubstr("Location: /api/v1/transitions/t-000007\r\n"));
    EXPECT_THAT(control_.changes_now(),
                testing::ElementsAre("olga@127.0.0.1: transition INITIAL DUAL_WRITE r"));
}

TEST_F(AdminServer, answers_pipelined_requests_in_order) {
    start();
    Client client(server_->port());
    client.send(get("/api/v1/phase") + get("/livez") + get("/api/v1/nothing"));
    EXPECT_THAT(client.response(), HasSubstr("\"phase\""));
    EXPECT_THAT(client.response(), HasSubstr("\"alive\""));
    EXPECT_THAT(client.response(), StartsWith("HTTP/1.1 404 Not Found"));
}

TEST_F(AdminServer, answers_head_without_a_body_and_goes_on) {
    start();
    Client client(server_->port());
    client.send(
        "HEAD /api/v1/phase HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n\r\n");
    const std::string head = client.response(true);
    EXPECT_THAT(head, AllOf(StartsWith("HTTP/1.1 200"), Not(HasSubstr("Content-Length: 0"))));
    client.send(get("/livez"));
    EXPECT_THAT(client.response(), StartsWith("HTTP/1.1 200"));
}

TEST_F(AdminServer, metrics_are_prometheus_text) {
    start();
    Client client(server_->port());
    client.send(get("/metrics"));
    EXPECT_THAT(client.response(), AllOf(HasSubstr("Content-Type: text/plain; version=0.0.4"),
                                         HasSubstr("\nbanyan_phase{phase=\"INITIAL\"} 1\n")));
}

TEST_F(AdminServer, a_stranger_changes_nothing) {
    start();
    const std::string body = R"({"from":"INITIAL","to":"DUAL_WRITE","reason":"r"})";
    Client client(server_->port());
    client.send(post("/api/v1/transitions", body, ""));
    EXPECT_THAT(client.response(), AllOf(StartsWith("HTTP/1.1 401 Unauthorized"),
                                         HasSubstr("WWW-Authenticate: Bearer")));
    client.send(post("/api/v1/transitions", body, "Authorization: Bearer guess\r\n"));
    EXPECT_THAT(client.response(), StartsWith("HTTP/1.1 401"));
    client.send(post("/api/v1/transitions", body,
                     "Authorization: Bearer secret\r\nSec-Fetch-Site: cross-site\r\n"));
    EXPECT_THAT(client.response(), StartsWith("HTTP/1.1 403"));
    EXPECT_THAT(control_.changes_now(), testing::IsEmpty());
}

TEST_F(AdminServer, without_tokens_loopback_may_look_and_is_told_how_to_change) {
    start(false);
    Client client(server_->port());
    client.send("GET /api/v1/phase HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_THAT(client.response(), StartsWith("HTTP/1.1 200"));
    client.send(
        "POST /api/v1/backfill/start HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    EXPECT_THAT(client.response(),
                AllOf(StartsWith("HTTP/1.1 403"), HasSubstr("[[admin.tokens]]")));
}

TEST_F(AdminServer, refuses_a_body_over_a_megabyte_before_it_is_sent) {
    start();
    Client client(server_->port());
    client.send(
        "POST /api/v1/transitions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048577\r\n\r\n");
    EXPECT_THAT(client.response(),
                AllOf(StartsWith("HTTP/1.1 413"), HasSubstr("\"limit_bytes\":1048576")));
    EXPECT_TRUE(client.closed());
}

TEST_F(AdminServer, refuses_a_body_over_a_megabyte_that_arrives_in_chunks) {
    start();
    Client client(server_->port());
    client.send(
        "POST /api/v1/transitions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
        "chunked\r\n\r\n");
    const std::string chunk = "10000\r\n" + std::string(0x10000, 'x') + "\r\n";
    for (int i = 0; i < 17; ++i) {
        client.send(chunk);
    }
    EXPECT_THAT(client.response(), StartsWith("HTTP/1.1 413"));
}

TEST_F(AdminServer, refuses_a_header_over_sixteen_kilobytes) {
    start();
    Client client(server_->port());
    client.send(get("/livez", "X-Filler: " + std::string(17000, 'x') + "\r\n"));
    EXPECT_THAT(client.response(), StartsWith("HTTP/1.1 431"));
}

TEST_F(AdminServer, refuses_what_is_not_http) {
    start();
    for (const char* text :
         {"\x16\x03\x01\x02 TLS\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
          "GET / HTTP/1.1\r\nbad header\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"}) {
        Client client(server_->port());
        client.send(text);
        EXPECT_THAT(client.response(), StartsWith("HTTP/1.1 400")) << text;
        EXPECT_TRUE(client.closed());
    }
}

TEST_F(AdminServer, hangs_up_on_a_client_that_dribbles) {
    limits_.timeout = milliseconds(300);
    start();
    Client client(server_->port());
    client.send("GET /livez HTTP/1.1\r\n");
    const auto begin = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begin < milliseconds(450)) {
        client.send("X: y\r\n");  // each byte must not buy more time
        std::this_thread::sleep_for(milliseconds(30));
    }
    EXPECT_TRUE(client.closed());
}

TEST_F(AdminServer, a_client_that_dribbles_does_not_hold_up_others) {
    start();
    Client slow(server_->port());
    slow.send("GET /livez HT");
    Client quick(server_->port());
    quick.send(get("/api/v1/phase"));
    EXPECT_THAT(quick.response(), StartsWith("HTTP/1.1 200"));
}

TEST_F(AdminServer, stays_alive_while_every_handler_waits_for_the_control_plane) {
    start();
    control_.set(&FakeControl::held, true);
    std::vector<std::unique_ptr<Client>> waiting;
    for (int i = 0; i < 8; ++i) {
        waiting.push_back(std::make_unique<Client>(server_->port()));
        waiting.back()->send(get("/api/v1/status"));
    }
    Client probe(server_->port());
    probe.send(get("/livez"));
    EXPECT_THAT(probe.response(), StartsWith("HTTP/1.1 200"));
    control_.set(&FakeControl::held, false);
    control_.released.notify_all();
    for (const auto& client : waiting) {
        EXPECT_THAT(client->response(), StartsWith("HTTP/1.1 200"));
    }
}

TEST_F(AdminServer, a_connection_too_many_is_told_so_and_room_comes_back) {
    limits_.connections = 2;
    start();
    auto first = std::make_unique<Client>(server_->port());
    first->send(get("/livez"));
    EXPECT_THAT(first->response(), StartsWith("HTTP/1.1 200"));
    Client second(server_->port());
    second.send(get("/livez"));
    EXPECT_THAT(second.response(), StartsWith("HTTP/1.1 200"));
    Client third(server_->port());
    EXPECT_THAT(third.response(), StartsWith("HTTP/1.1 503"));
    first.reset();
    std::string response;
    for (int i = 0; i < 200 && !response.starts_with("HTTP/1.1 200"); ++i) {
        Client again(server_->port());
        again.send(get("/livez"));
        response = again.response();
        std::this_thread::sleep_for(milliseconds(10));
    }
    EXPECT_THAT(response, StartsWith("HTTP/1.1 200"));
}

TEST_F(AdminServer, stop_closes_idle_connections_and_waits_for_handlers) {
    start();
    Client idle(server_->port());
    idle.send(get("/livez"));
    idle.response();
    control_.set(&FakeControl::held, true);
    Client busy(server_->port());
    busy.send(get("/api/v1/status"));
    std::thread stopper([this] { server_->stop(); });
    EXPECT_TRUE(idle.closed());
    control_.set(&FakeControl::held, false);
    control_.released.notify_all();
    stopper.join();
    EXPECT_FALSE(Client(server_->port()).connected());
    server_->stop();
}

TEST_F(AdminServer, writes_its_port_to_a_file) {
    const auto file =
        std::filesystem::path(testing::TempDir()) / ("admin_port_" + std::to_string(::getpid()));
    config_.admin.port_file = file;
    start();
    std::ifstream in(file);
    int port = 0;
    in >> port;
    EXPECT_EQ(port, server_->port());
    std::filesystem::remove(file);
}

TEST_F(AdminServer, does_not_start_where_it_cannot_or_must_not_listen) {
    start(false);
    router::Config taken = config_;
    taken.admin.port = server_->port();
    EXPECT_THAT(Server::start(taken, control_, counters_).error().message,
                AllOf(HasSubstr("127.0.0.1"), HasSubstr(std::to_string(taken.admin.port))));
    router::Config open = config_;
    open.admin.host = "0.0.0.0";
    EXPECT_THAT(Server::start(open, control_, counters_).error().message,
                HasSubstr("[[admin.tokens]]"));
    router::Config nowhere = config_;
    nowhere.admin.port_file = "/nonexistent/port";
    EXPECT_THAT(Server::start(nowhere, control_, counters_).error().message,
                HasSubstr("/nonexistent/port"));
}

TEST_F(AdminServer, pushes_what_changes_to_those_who_listen) {
    start();
    Client client(server_->port());
    client.send(get("/api/v1/events"));
    EXPECT_THAT(client.until("\r\n\r\n"),
                AllOf(StartsWith("HTTP/1.1 200 OK\r\n"),
                      HasSubstr("Content-Type: text/event-stream\r\n")));
    EXPECT_THAT(client.until("}\n\n"), AllOf(HasSubstr("event: state\ndata: {\"status\":{"),
                                            HasSubstr("\"phase\":\"INITIAL\""),
                                            HasSubstr("\"revisions\":{\"transitions\":\"")));
    control_.set(&FakeControl::current, router::Phase::dual_write);
    EXPECT_THAT(client.until("}\n\n"), HasSubstr("\"phase\":\"DUAL_WRITE\""));

    Client second(server_->port());
    second.send(get("/api/v1/events"));
    EXPECT_THAT(second.until("}\n\n"), HasSubstr("\"phase\":\"DUAL_WRITE\""));
    second.send("x");  // whoever listens has nothing to say
    EXPECT_TRUE(second.closed());
    control_.set(&FakeControl::current, router::Phase::dual_read);
    EXPECT_THAT(client.until("}\n\n"), HasSubstr("\"phase\":\"DUAL_READ\""));
    server_->stop();
    EXPECT_TRUE(client.closed());
}

TEST_F(AdminServer, leaves_connections_for_requests_when_many_listen) {
    start();
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 32; ++i) {
        clients.push_back(std::make_unique<Client>(server_->port()));
        clients.back()->send(get("/api/v1/events"));
        EXPECT_THAT(clients.back()->until("}\n\n"), HasSubstr("event: state"));
    }
    Client more(server_->port());
    more.send(get("/api/v1/events"));
    EXPECT_THAT(more.response(), StartsWith("HTTP/1.1 503"));
    more.send(get("/api/v1/phase"));
    EXPECT_THAT(more.response(), StartsWith("HTTP/1.1 200"));
    clients.pop_back();
    for (int i = 0; i < 500; ++i) {
        Client again(server_->port());
        again.send(get("/api/v1/events"));
        if (again.until("\r\n\r\n").starts_with("HTTP/1.1 200")) {
            return;
        }
        std::this_thread::sleep_for(milliseconds(10));
    }
    FAIL() << "the place of the one who left was not given to another";
}

}  // namespace
}  // namespace banyan::admin
