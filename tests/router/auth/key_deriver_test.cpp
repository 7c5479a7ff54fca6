#include "router/auth/key_deriver.hpp"

#include <gtest/gtest.h>

#include <future>

namespace banyan::router {
namespace {

using protocol::Secret;
using Key = std::shared_ptr<const Secret>;

std::future<Key> derive(KeyDeriver& deriver, std::string_view password, std::string salt,
                        std::uint32_t iterations) {
    auto promise = std::make_shared<std::promise<Key>>();
    auto future = promise->get_future();
    deriver.derive(Secret(password), std::move(salt), iterations,
                   [promise](Key key) { promise->set_value(std::move(key)); });
    return future;
}

TEST(KeyDeriver, DerivesWhatSaltPasswordDoesOncePerPasswordSaltAndCount) {
    KeyDeriver deriver;
    std::vector<std::future<Key>> same;
    for (int i = 0; i < 20; ++i) {
        same.push_back(derive(deriver, "secret", "salt", 4096));
    }
    const auto expected = protocol::salt_password(Secret("secret"), "salt", 4096);
    for (auto& each : same) {
        EXPECT_TRUE(each.get()->same(expected));
    }
    EXPECT_EQ(deriver.derivations(), 1U);
    EXPECT_FALSE(derive(deriver, "secret", "salt", 4097).get()->same(expected));
    EXPECT_FALSE(derive(deriver, "secret", "pepper", 4096).get()->same(expected));
    EXPECT_FALSE(derive(deriver, "Secret", "salt", 4096).get()->same(expected));
    EXPECT_EQ(deriver.derivations(), 4U);
}

TEST(KeyDeriver, RefusesWhatIsTooMuchAndEndsWithWorkLeft) {
    KeyDeriver deriver(0);  // nobody works
    std::vector<std::future<Key>> all;
    for (int i = 0; i < 1024; ++i) {
        all.push_back(derive(deriver, "secret", "salt" + std::to_string(i), 4096));
    }
    EXPECT_EQ(derive(deriver, "secret", "one more", 4096).get(), nullptr);
    deriver.stop();
    EXPECT_EQ(derive(deriver, "secret", "after the end", 4096).get(), nullptr);
}

}  // namespace
}  // namespace banyan::router
