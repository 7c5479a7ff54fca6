#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scene.hpp"

namespace banyan::test {
namespace {

using namespace std::literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

/// A client with a password of its own, as libpq: 'y' when it is on TLS with Banyan, else 'n'.
class ScramClient {
   public:
    explicit ScramClient(char gs2, std::string_view password = "secret")
        : gs2_(gs2), password_(password) {}

    std::string first() const {
        const std::string said = std::string(1, gs2_) + ",," + bare_;
        std::string body = "SCRAM-SHA-256\0"s;
        protocol::put_int32(body, static_cast<std::uint32_t>(said.size()));
        return raw('p', body + said);
    }
    /// `bytes`: all the client has got; its last message is AuthenticationSASLContinue.
    std::string last(std::string_view bytes) {
        const std::string first(bytes.substr(bytes.rfind("r=")));
        const auto challenge = protocol::parse_scram_challenge(first);
        keys_ = protocol::scram_keys(
            protocol::salt_password(password_, challenge->salt, challenge->iterations));
        const std::string without = (gs2_ == 'y' ? "c=eSws,r=" : "c=biws,r=") + challenge->nonce;
        signed_ = bare_ + "," + first + "," + without;
        return raw('p', without + ",p=" +
                            std::string(protocol::scram_proof(keys_.client_key, signed_).reveal()));
    }
    std::string server_final() const {
        return "v=" + protocol::scram_signature(keys_.server_key, signed_);
    }

   private:
    char gs2_;
    protocol::Secret password_;
    std::string bare_ = "n=,r=clientnonceclientnonce";
    protocol::ScramKeys keys_;
    std::string signed_;
};

void set_verifiers(Scene& scene, const std::optional<std::string>& source,
                   const std::optional<std::string>& target) {
    for (const Side side : {Side::source, Side::target}) {
        auto& of = scene.role_verifiers.of(side);
        of.readable = true;
        if (const auto& text = side == Side::source ? source : target) {
            of.text.emplace(*text);
        }
    }
}
std::string verifier(const std::string& password = "secret") {
    return ScramServer(password, 4096).verifier();
}

void scram_login(Scene& scene, char gs2 = 'n', std::string_view password = "secret") {
    scene.server(scene.machine.primary()).scram_password = "secret";
    ScramClient client(gs2, password);
    scene.send(startup());
    scene.send(client.first());
    scene.send(client.last(scene.client_total()));
    if (scene.machine.logged_in()) {
        EXPECT_NE(scene.client_total().find(client.server_final()), std::string::npos);
    }
}

Lines without_statements(Lines lines) {
    std::erase_if(lines, [](const auto& line) { return line == "Query <settings>"; });
    return lines;
}

// --- the client's login ---

TEST(ScramLogin, IsRelayedWithoutAskingForVerifiers) {
    for (const char gs2 : {'n', 'y'}) {
        Scene scene(Phase::initial);
        scram_login(scene, gs2);
        EXPECT_TRUE(scene.machine.logged_in());
        EXPECT_THAT(scene.source.log(),
                    ElementsAre("startup app@shop", "SCRAM "s + gs2 + ",,", "SCRAM proof"));
        EXPECT_THAT(scene.port.verifier_requests, IsEmpty());
    }
}

TEST(ScramLogin, ChannelBindingIsTakenOffTheList) {
    Scene scene(Phase::initial);
    scene.source.scram_password = "secret";
    scene.source.on_tls = true;
    scene.send(startup());
    EXPECT_EQ(scene.client_total(), raw('R', "\0\0\0\12SCRAM-SHA-256\0\0"s));
}

TEST(ScramLogin, OnTlsOnBothLegsItIsTranslated) {
    Scene scene(Phase::initial);
    set_verifiers(scene, verifier(), std::nullopt);
    scene.source.on_tls = true;
    scene.verifiers_answer = false;
    scram_login(scene, 'y');
    EXPECT_THAT(scene.port.verifier_requests, ElementsAre("app source"));
    EXPECT_FALSE(scene.machine.logged_in());
    scene.verifiers_answer = true;
    scene.settle();
    EXPECT_TRUE(scene.machine.logged_in());
    EXPECT_THAT(scene.source.log(), ElementsAre("startup app@shop", "SCRAM n,,", "SCRAM proof"));
    EXPECT_THAT(scene.ask(query("SELECT 1")), Contains("Z I"));
}

TEST(ScramLogin, ARefusalOfATranslatedLoginIsTheServersOwn) {
    struct Case {
        const char* name;
        std::optional<std::string> kept;
        const char* password;
    };
    const Case cases[] = {
        {"a wrong password", verifier(), "guess"},
        {"an unknown role", std::nullopt, "secret"},
        {"a role with an md5 password", "md5911f527656472583a006e7727877b33e", "secret"},
        {"a password changed meanwhile", verifier("another"), "secret"}};
    for (const auto& each : cases) {
        Scene scene(Phase::initial);
        set_verifiers(scene, each.kept, std::nullopt);
        scene.source.on_tls = true;
        scram_login(scene, 'y', each.password);
        EXPECT_THAT(scene.source.log(),
                    ElementsAre("startup app@shop", "SCRAM n,,", "SCRAM wrong proof"))
            << each.name;
        EXPECT_THAT(scene.client(), Contains("E 28P01")) << each.name;
        EXPECT_TRUE(scene.machine.closed()) << each.name;
    }
}

TEST(ScramLogin, WithoutVerifiersATranslationIsRefusedInPlainWords) {
    Scene scene(Phase::initial);
    scene.role_verifiers.of(Side::source).error = "permission denied";
    scene.source.on_tls = true;
    scram_login(scene, 'y');
    EXPECT_THAT(scene.client(), Contains("E 28000"));
    EXPECT_THAT(scene.client_total(), HasSubstr("permission denied"));
    EXPECT_THAT(scene.client_total(), HasSubstr("channel_binding=disable"));
    EXPECT_TRUE(scene.machine.closed());
    EXPECT_EQ(scene.count(Counter::logins_failed), 1U);
}

TEST(ScramLogin, AServerThatCannotSignIsNotVouchedFor) {
    Scene scene(Phase::initial);
    set_verifiers(scene, verifier(), std::nullopt);
    scene.source.on_tls = true;
    scene.source.scram_password = "secret";
    ScramClient client('y');
    scene.send(startup());
    scene.send(client.first());
    scene.source.hangs = true;
    scene.send(client.last(scene.client_total()));
    scene.client();
    scene.server_says(Side::source, raw('R', "\0\0\0\14v=AAAA"s));
    EXPECT_THAT(scene.client(), ElementsAre("E 08P01"));
    EXPECT_TRUE(scene.machine.closed());
}

TEST(ScramLogin, AnAnswerForNobodyIsDropped) {
    Scene scene(Phase::dual_write);
    scene.log_in();
    scene.give([&] { scene.machine.verifiers(scene.role_verifiers); });
    const protocol::Secret key("x");
    scene.give([&] { scene.machine.key_derived(0, &key); });
    scene.give([&] { scene.machine.key_derived(77, nullptr); });
    EXPECT_TRUE(scene.machine.mirror_ready());
    EXPECT_THAT(scene.ask(query("SELECT 1")), ElementsAre("C SELECT 1", "Z I"));
}

// --- the mirror's login ---

TEST(MirrorLogin, AKeyIsDerivedElsewhere) {
    Scene scene(Phase::dual_write);
    scene.config.users.push_back({"app", "", "secret"});
    scene.target.scram_password = "secret";
    scene.keys_answer = false;
    scene.send(startup());
    ASSERT_EQ(scene.port.derivations.size(), 1U);
    EXPECT_FALSE(scene.machine.mirror_ready());
    EXPECT_THAT(scene.ask(query("SELECT 1")), Contains("C SELECT 1"));  // nobody waits for it
    scene.keys_answer = true;
    scene.settle();
    EXPECT_TRUE(scene.machine.mirror_ready());
    EXPECT_EQ(scene.machine.mirror_login(), "users");
    EXPECT_THAT(scene.target.log(),
                ElementsAre("startup app@shop_new", "SCRAM n,,", "SCRAM proof", "Query <setup>"));
}

TEST(MirrorLogin, AKeyThatCannotBeDerivedOrComesTooLateCostsTheMirrorOnly) {
    for (const bool late : {false, true}) {
        Scene scene(Phase::dual_write);
        scene.config.users.push_back({"app", "", "secret"});
        scene.target.scram_password = "secret";
        scene.keys_answer = false;
        scene.send(startup());
        const auto [ticket, key] = std::move(scene.port.derivations.front());
        scene.port.derivations.clear();
        if (late) {
            scene.deadline(Deadline::mirror_login);
        }
        scene.give(
            [&, t = ticket, &k = key] { scene.machine.key_derived(t, late ? &k : nullptr); });
        EXPECT_FALSE(scene.machine.mirror_ready());
        EXPECT_EQ(scene.machine.mirror_login(), "");
        EXPECT_EQ(scene.count(Counter::mirror_failures), 1U);
        EXPECT_THAT(scene.ask(query("SELECT 1")), Contains("C SELECT 1"));
    }
}

TEST(MirrorLogin, AKeyForAnotherAttemptIsNotUsed) {
    Scene scene(Phase::dual_write);
    scene.config.users.push_back({"app", "", "secret"});
    scene.target.scram_password = "secret";
    scene.keys_answer = false;
    scene.send(startup());
    const auto former = std::move(scene.port.derivations.front());
    scene.port.derivations.clear();
    scene.lose_server(Side::target);
    scene.send(query("INSERT INTO item VALUES (7)"));
    ASSERT_EQ(scene.port.derivations.size(), 1U);
    scene.target.log();
    const protocol::Secret stale("from the salt of the former attempt");
    scene.give([&] { scene.machine.key_derived(former.first, &stale); });
    scene.settle();
    EXPECT_THAT(scene.target.log(), IsEmpty());
    scene.keys_answer = true;
    scene.settle();
    EXPECT_TRUE(scene.machine.mirror_ready());
}

TEST(MirrorLogin, PasswordsInClearTextAndMd5NeedLeave) {
    struct Case {
        const char* name;
        const char* cleartext;
        bool encrypted;
        bool logs_in;
    };
    for (const auto& each : {Case{"never", "never", true, false},
                             Case{"encrypted, but is not", "encrypted", false, false},
                             Case{"encrypted, and is", "encrypted", true, true},
                             Case{"always", "always", false, true}}) {
        Scene scene(Phase::dual_write);
        scene.config.users.push_back({"app", "", "secret"});
        scene.config.mirror.allow_cleartext = each.cleartext;
        scene.target.wants_password = true;
        scene.encrypted = each.encrypted;
        scene.send(startup());
        EXPECT_EQ(scene.machine.mirror_ready(), each.logs_in) << each.name;
        EXPECT_EQ(scene.target.total().find("secret") != std::string::npos, each.logs_in)
            << each.name;
    }
    for (const bool allowed : {false, true}) {
        Scene scene(Phase::dual_write);
        scene.config.users.push_back({"app", "", "secret"});
        scene.config.mirror.allow_md5 = allowed;
        scene.target.hangs = true;
        scene.send(startup());
        const auto before = scene.target.total().size();
        scene.server_says(Side::target, raw('R', "\0\0\0\5salt"s));
        EXPECT_EQ(scene.target.total().size() > before + 5, allowed);
        EXPECT_EQ(scene.count(Counter::mirror_failures), allowed ? 0U : 1U);
    }
}

TEST(MirrorLogin, RecoveredKeysLogInWithoutAPassword) {
    Scene scene(Phase::dual_write);
    set_verifiers(scene, verifier(), verifier());
    scene.target.scram_password = "secret";
    scram_login(scene);
    EXPECT_TRUE(scene.machine.mirror_ready());
    EXPECT_EQ(scene.machine.mirror_login(), "scram_keys");
    EXPECT_THAT(scene.target.log(),
                ElementsAre("startup app@shop_new", "SCRAM n,,", "SCRAM proof", "Query <setup>"));
    EXPECT_THAT(scene.port.derivations, IsEmpty());
}

TEST(MirrorLogin, AKeySeenInInitialIsUsedWhenTheMirroringBegins) {
    Scene scene(Phase::initial);
    set_verifiers(scene, verifier(), verifier());
    scene.target.scram_password = "secret";
    scram_login(scene);
    EXPECT_THAT(scene.port.verifier_requests, IsEmpty());
    scene.direct(directive(1, Phase::dual_write));
    EXPECT_EQ(scene.machine.mirror_login(), "scram_keys");
    EXPECT_TRUE(scene.machine.mirror_ready());
    // And it is a login of the client's own: it may become the primary.
    scene.direct(directive(2, Phase::dual_read));
    scene.direct(directive(3, Phase::dual_read, true));
    scene.direct(directive(4, Phase::switchover));
    EXPECT_EQ(scene.machine.primary(), Side::target);
    EXPECT_EQ(scene.machine.mirror_login(), "client");
    scene.client();
    EXPECT_THAT(scene.ask(query("SELECT 1")), Contains("Z I"));
}

TEST(MirrorLogin, AKeyIsUsedOnlyWhereTheVerifiersAreIdentical) {
    struct Case {
        const char* name;
        std::optional<std::string> source;
        std::optional<std::string> target;
    };
    const Case cases[] = {{"the target has another password", verifier(), verifier("another")},
                          {"the role is missing there", verifier(), std::nullopt},
                          {"the role is missing here", std::nullopt, verifier()},
                          {"both are md5", "md5911f527656472583a006e7727877b33e",
                           "md5911f527656472583a006e7727877b33e"},
                          {"changed on both since", verifier("another"), verifier("another")}};
    for (const auto& each : cases) {
        Scene scene(Phase::dual_write);
        set_verifiers(scene, each.source, each.target);
        scram_login(scene);
        EXPECT_EQ(scene.machine.mirror_login(), "trust") << each.name;
    }
    Scene unreadable(Phase::dual_write);
    scram_login(unreadable);
    EXPECT_EQ(unreadable.machine.mirror_login(), "trust");
    Scene not_allowed(Phase::dual_write);
    not_allowed.config.mirror.logins = {"users"};
    set_verifiers(not_allowed, verifier(), verifier());
    scram_login(not_allowed);
    EXPECT_EQ(not_allowed.machine.mirror_login(), "trust");
    EXPECT_THAT(not_allowed.port.verifier_requests, IsEmpty());
}

TEST(MirrorLogin, AnEntryOfTheUserListComesFirstAndRefusedKeysAreNotTriedAgain) {
    Scene scene(Phase::dual_write);
    scene.config.users.push_back({"app", "", "secret"});
    set_verifiers(scene, verifier(), verifier());
    scene.target.scram_password = "secret";
    scram_login(scene);
    EXPECT_EQ(scene.machine.mirror_login(), "users");

    Scene refused(Phase::dual_write);
    refused.config.mirror.logins = {"users", "scram_keys", "service_role"};
    refused.config.target.user = "banyan";
    set_verifiers(refused, verifier(), verifier());
    refused.target.scram_password = "what pg_authid does not say";
    scram_login(refused);
    refused.target.log();
    EXPECT_FALSE(refused.machine.mirror_ready());
    refused.target.scram_password.reset();
    refused.target.connected();
    refused.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_EQ(refused.machine.mirror_login(), "service_role");
    EXPECT_THAT(refused.target.log(), Contains("startup banyan@shop_new"));
}

TEST(MirrorLogin, AVerifierThatNeverComesIsGivenUp) {
    Scene scene(Phase::dual_write);
    scene.verifiers_answer = false;
    scram_login(scene);
    EXPECT_TRUE(scene.machine.logged_in());
    EXPECT_EQ(scene.port.deadlines.count(Deadline::mirror_login), 1U);
    scene.deadline(Deadline::mirror_login);
    EXPECT_EQ(scene.machine.mirror_login(), "");
    scene.verifiers_answer = true;
    scene.settle();  // the answer comes, for nobody
    EXPECT_THAT(scene.target.log(), IsEmpty());
}

TEST(MirrorLogin, ARoleThatIsRefusedIsTriedAgainLaterAndCutsNobodyElseOff) {
    Scene scene(Phase::dual_write);  // no password, and the mirror asks for one
    scene.target.scram_password = "secret";
    scene.send(startup());
    for (int i = 0; i < 10; ++i) {
        scene.send(query("INSERT INTO item VALUES (7)"));
    }
    EXPECT_THAT(scene.target.log(), ElementsAre("startup app@shop_new"));
    EXPECT_EQ(scene.count(Counter::mirror_failures), 1U);
    EXPECT_TRUE(scene.port.the_breaker.allows());
    ASSERT_EQ(scene.port.deadlines.count(Deadline::mirror_retry), 1U);
    scene.deadline(Deadline::mirror_retry);
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_THAT(scene.target.log(), ElementsAre("startup app@shop_new"));
    scene.direct(directive(1, Phase::dual_write, true));  // a flip may be near
    EXPECT_THAT(scene.target.log(), ElementsAre("startup app@shop_new"));
    // What the mirror itself cannot do still counts.
    for (const auto* sqlstate : {"57P03", "53200"}) {
        Scene full(Phase::dual_write);
        full.target.hangs = true;
        full.send(startup());
        const auto text = "SFATAL\0C"s + sqlstate + "\0Mno\0\0"s;
        for (int i = 0; i < 3; ++i) {
            full.server_says(Side::target, raw('E', text));
            full.send(query("INSERT INTO item VALUES (7)"));
        }
        EXPECT_FALSE(full.port.the_breaker.allows()) << sqlstate;
        EXPECT_EQ(full.port.deadlines.count(Deadline::mirror_retry), 0U);
    }
}

// --- the service role ---

struct ServiceScene : Scene {
    explicit ServiceScene(Phase phase) : ServiceScene(directive(0, phase)) {}
    explicit ServiceScene(const Directive& first) : Scene(first) {
        config.mirror.logins = {"users", "scram_keys", "service_role"};
        config.source.user = config.target.user = "banyan";
        config.target.password = "service secret";
    }
};

TEST(ServiceRole, LogsInAndBecomesTheClientsRoleBeforeAnythingElse) {
    ServiceScene scene(Phase::dual_write);
    scene.target.scram_password = "service secret";
    scene.target.hangs = true;
    scene.send(startup("shop", {{"options", "-c geqo=off"}, {"application_name", "it"}}));
    scene.send(query("INSERT INTO item VALUES (7)"));
    scene.resume(Side::target);
    EXPECT_EQ(scene.machine.mirror_login(), "service_role");
    EXPECT_TRUE(scene.machine.mirror_ready());
    const auto log = scene.target.log();
    ASSERT_GE(log.size(), 4U);
    EXPECT_EQ(log[0], "startup banyan@shop_new");
    EXPECT_EQ(log[3], "Query <setup>");
    EXPECT_THAT(scene.target.total(), HasSubstr("; SET SESSION AUTHORIZATION 'app'\0"s));
    EXPECT_THAT(scene.target.total(), Not(HasSubstr("geqo")));
    EXPECT_THAT(scene.target.total(), HasSubstr("application_name\0it\0"s));
    // The defaults of role, database and startup message are read along with the session's own.
    EXPECT_THAT(scene.source.total(), HasSubstr("'database user'"));
}

TEST(ServiceRole, NothingIsSentBeforeTheAuthorizationIsKnown) {
    ServiceScene scene(Phase::dual_read);
    scene.target.on("SET SESSION AUTHORIZATION", refusal("22023"));
    scene.send(startup());
    scene.send(query("SELECT id FROM item"));
    scene.send(query("INSERT INTO item VALUES (7)"));
    EXPECT_FALSE(scene.machine.mirror_ready());
    for (const auto& line : without_statements(scene.target.log())) {
        EXPECT_THAT(line,
                    ::testing::AnyOf("startup banyan@shop_new", "Query <setup>", "Terminate"));
    }
    EXPECT_GT(scene.count(Counter::mirror_failures), 0U);

    ServiceScene waiting(Phase::dual_read);  // the setup is sent, and not answered yet
    waiting.target.hangs = true;
    waiting.send(startup());
    waiting.server_says(Side::target, raw('R', "\0\0\0\0"s) + raw('Z', "I"));
    EXPECT_THAT(waiting.target.total(), HasSubstr("SET SESSION AUTHORIZATION 'app'"));
    waiting.send(query("SELECT id FROM item"));
    waiting.send(query("INSERT INTO item VALUES (7)"));
    waiting.send(query("BEGIN") + query("INSERT INTO item VALUES (8)"));
    EXPECT_FALSE(waiting.machine.mirror_ready());
    EXPECT_THAT(waiting.target.total(), Not(HasSubstr("item")));

    ServiceScene silent(Phase::dual_write);
    silent.target.hides_authorization = true;
    silent.send(startup());
    EXPECT_FALSE(silent.machine.mirror_ready());
    EXPECT_EQ(silent.count(Counter::mirror_failures), 1U);
}

TEST(ServiceRole, AnAuthorizationThatChangesCostsTheMirror) {
    ServiceScene scene(Phase::dual_write);
    scene.log_in();
    ASSERT_TRUE(scene.machine.mirror_ready());
    scene.server_says(Side::target, raw('S', "session_authorization\0app\0"s));
    scene.server_says(Side::target, raw('S', "is_superuser\0off\0"s));
    EXPECT_TRUE(scene.machine.mirror_ready());
    scene.server_says(Side::target, raw('S', "session_authorization\0banyan\0"s));
    EXPECT_FALSE(scene.machine.mirror_ready());
    EXPECT_TRUE(scene.port.closed.contains(Side::target));
    // Other logins do not mind.
    Scene own(Phase::dual_write);
    own.log_in();
    own.server_says(Side::target, raw('S', "session_authorization\0banyan\0"s));
    EXPECT_TRUE(own.machine.mirror_ready());
}

TEST(ServiceRole, TheClientsOwnWordsAboutItsAuthorizationDoNotReachTheMirror) {
    for (const auto* sql : {"RESET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION DEFAULT",
                            "SET SESSION AUTHORIZATION 'banyan'", "DISCARD ALL", "RESET ALL",
                            "SET LOCAL SESSION AUTHORIZATION 'banyan'"}) {
        ServiceScene scene(Phase::dual_read);
        scene.log_in();
        scene.send(query(sql));
        scene.send(query("INSERT INTO item VALUES (7)"));
        scene.send(query("BEGIN") + query(sql) + query("INSERT INTO item VALUES (7)") +
                   query("COMMIT"));
        for (const auto& line : scene.target.log()) {
            EXPECT_THAT(line, Not(HasSubstr("AUTHORIZATION"))) << sql;
            EXPECT_THAT(line, Not(HasSubstr("DISCARD"))) << sql;
            EXPECT_THAT(line, Not(HasSubstr("RESET ALL"))) << sql;
        }
    }
}

TEST(ServiceRole, NeverBecomesTheClientsPrimary) {
    // Idle through the flip, and with its login under way during it.
    ServiceScene idle(Phase::dual_read);
    idle.log_in();
    ASSERT_EQ(idle.machine.mirror_login(), "service_role");
    idle.direct(directive(1, Phase::dual_read, true));
    EXPECT_FALSE(idle.machine.closed());  // the hold may still be given up
    idle.target.log();
    idle.direct(directive(2, Phase::switchover));
    EXPECT_THAT(idle.client(), ElementsAre("E 57P01"));
    EXPECT_TRUE(idle.machine.closed());
    EXPECT_THAT(idle.client_total(), HasSubstr("[[users]]"));

    ServiceScene late(Phase::dual_read);
    late.source.hangs = true;
    late.send(startup());
    late.direct(directive(1, Phase::switchover));
    late.resume(Side::source);
    EXPECT_THAT(late.client(), Contains("E 57P01"));
    EXPECT_TRUE(late.machine.closed());

    // A hold that ends without a flip costs nothing.
    ServiceScene kept(Phase::dual_read);
    kept.log_in();
    kept.direct(directive(1, Phase::dual_read, true));
    kept.direct(directive(2, Phase::dual_read));
    EXPECT_THAT(kept.ask(query("SELECT 1")), Contains("Z I"));
}

}  // namespace
}  // namespace banyan::test
