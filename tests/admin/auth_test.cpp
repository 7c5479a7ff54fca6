#include "admin/auth.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace banyan::admin {
namespace {

using testing::HasSubstr;

Request from(std::string peer, bool loopback) {
    Request request;
    request.peer_address = std::move(peer);
    request.peer_is_loopback = loopback;
    request.host = "127.0.0.1:8432";
    return request;
}

TEST(Auth, sha256_is_the_standards) {
    EXPECT_EQ(sha256_hex("abc"),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Auth, equality_is_that_of_the_text) {
    EXPECT_TRUE(equal_constant_time("abc", "abc"));
    EXPECT_FALSE(equal_constant_time("abc", "abd"));
    EXPECT_FALSE(equal_constant_time("abc", "ab"));
    EXPECT_TRUE(equal_constant_time("", ""));
}

TEST(Auth, without_tokens_this_machine_may_look_and_nobody_may_change) {
    const router::Config::Admin none;
    Identity identity;
    EXPECT_FALSE(authenticate(from("127.0.0.1", true), none, Role::viewer, identity));
    EXPECT_EQ(identity.name, "anonymous");
    EXPECT_EQ(identity.role, Role::viewer);

    const auto change = authenticate(from("127.0.0.1", true), none, Role::operator_, identity);
    ASSERT_TRUE(change);
    EXPECT_EQ(change->status, 403);
    EXPECT_THAT(change->body, HasSubstr("/problems/no-tokens-configured"));
    EXPECT_THAT(change->body, HasSubstr("[[admin.tokens]]"));
    EXPECT_THAT(change->body, HasSubstr("sha256sum"));

    const auto remote = authenticate(from("10.0.0.9", false), none, Role::viewer, identity);
    ASSERT_TRUE(remote);
    EXPECT_EQ(remote->status, 403);
    EXPECT_FALSE(authenticate(from("10.0.0.9", false), none, Role::nobody, identity));
}

struct Header {
    const char* name;
    const char* value;
    int status;  ///< 0: let in
};

TEST(Auth, the_authorization_header_is_read_as_rfc_6750_says) {
    router::Config::Admin config;
    config.tokens = {{"olga", sha256_hex("secret"), "operator"}, {"bad", sha256_hex("x"), "king"}};
    const Header headers[] = {
        {"right", "Bearer secret", 0},
        {"scheme in other case", "bearer secret", 0},
        {"two blanks", "Bearer  secret", 0},
        {"wrong", "Bearer secreT", 401},
        {"longer", "Bearer secrets", 401},
        {"the hash itself",
         "Bearer 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", 401},
        {"absent", "", 401},
        {"no token", "Bearer ", 401},
        {"no blank", "Bearer", 401},
        {"basic", "Basic b2xnYTpzZWNyZXQ=", 401},
        {"unknown role", "Bearer x", 401},
    };
    for (const auto& header : headers) {
        Request request = from("10.0.0.9", false);
        request.authorization = header.value;
        Identity identity;
        const auto refused = authenticate(request, config, Role::operator_, identity);
        EXPECT_EQ(refused ? refused->status : 0, header.status) << header.name;
        EXPECT_EQ(identity.name, refused ? "anonymous" : "olga") << header.name;
    }
}

TEST(Auth, a_role_includes_the_lower_ones_only) {
    router::Config::Admin config;
    const Role roles[] = {Role::viewer, Role::operator_, Role::admin};
    for (const Role has : roles) {
        config.tokens = {{"t", sha256_hex("t"), std::string(to_string(has))}};
        for (const Role needed : roles) {
            Request request = from("127.0.0.1", true);
            request.authorization = "Bearer t";
            Identity identity;
            const auto refused = authenticate(request, config, needed, identity);
            EXPECT_EQ(refused ? refused->status : 0, has < needed ? 403 : 0)
                << to_string(has) << " " << to_string(needed);
        }
    }
}

struct Host {
    const char* host;
    bool allowed;
};

TEST(Auth, the_host_header_must_name_this_server) {
    router::Config::Admin config;
    config.host = "admin.example.org";
    config.allowed_hosts = {"banyan.internal"};
    const Host hosts[] = {
        {"localhost", true},
        {"LOCALHOST:8432", true},
        {"127.0.0.1:1", true},
        {"[::1]:8432", true},
        {"admin.example.org", true},
        {"Admin.Example.Org.:80", true},
        {"banyan.internal:8432", true},
        {"10.1.2.3:8432", true},
        {"", false},
        {"evil.org", false},
        {"127.0.0.1.evil.org", false},
        {"localhost.evil.org", false},
        {"10.1.2.4", false},
        {"[", false},
        {"[fe80::1]", false},
    };
    for (const auto& test : hosts) {
        Request request = from("10.9.9.9", false);
        request.host = test.host;
        request.local_address = "10.1.2.3";
        EXPECT_EQ(!check_host(request, config).has_value(), test.allowed) << test.host;
    }
    Request six = from("fe80::9", false);
    six.local_address = "fe80::1";
    six.host = "[FE80::1]:8432";
    EXPECT_FALSE(check_host(six, config));
}

struct Origin {
    const char* origin;
    const char* site;
    bool allowed;
};

TEST(Auth, a_page_of_another_site_may_not_change_anything) {
    const Origin origins[] = {
        {"", "", true},
        {"http://127.0.0.1:8432", "", true},
        {"http://127.0.0.1:8432", "same-origin", true},
        {"", "none", true},
        {"http://127.0.0.1:9999", "", false},
        {"https://evil.org", "", false},
        {"null", "", false},
        {"", "cross-site", false},
        {"", "same-site", false},
        {"http://127.0.0.1:8432", "cross-site", false},
    };
    for (const auto& test : origins) {
        Request request = from("127.0.0.1", true);
        request.origin = test.origin;
        request.sec_fetch_site = test.site;
        EXPECT_EQ(!check_origin(request).has_value(), test.allowed) << test.origin << test.site;
    }
}

}  // namespace
}  // namespace banyan::admin
