#include "proxy/cancel_call.hpp"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "protocol/messages.hpp"

namespace banyan::proxy {
namespace {

constexpr std::chrono::milliseconds cancel_timeout{2000};

}  // namespace

CancelCall::CancelCall(Context& context, EventLoop& loop, router::Side side)
    : connector_(std::make_shared<Connector>(context, loop, side)),
      channel_(loop.reactor()),
      deadline_(loop.reactor()) {}

void CancelCall::start(std::uint32_t process_id, std::uint32_t secret_key,
                       std::function<void()> done) {
    done_ = std::move(done);
    deadline_.after(cancel_timeout, [self = shared_from_this()] { self->end(); });
    connector_->start(
        [self = shared_from_this(), process_id, secret_key](Result<Channel> connected) {
            if (!connected) {
                self->end();
                return;
            }
            self->channel_ = std::move(*connected);
            std::string request;
            protocol::encode_cancel_request(request, process_id, secret_key);
            std::size_t sent = 0;
            self->channel_.write(request.data(), request.size(), sent);
            self->wait();
        });
}

void CancelCall::wait() {
    channel_.when_readable([self = shared_from_this()] { self->on_readable(); });
}

// What is not the end can only be TLS's own: the server answers nothing.
void CancelCall::on_readable() {
    std::vector<char> buffer(32768);
    std::size_t got = 0;
    if (done_ && channel_.read(buffer.data(), buffer.size(), got) == Channel::Outcome::wait) {
        wait();
    } else {
        end();
    }
}

void CancelCall::end() {
    if (!done_) {
        return;
    }
    const auto done = std::exchange(done_, nullptr);
    connector_->cancel();
    channel_.close();
    deadline_.cancel();
    done();
}

}  // namespace banyan::proxy
