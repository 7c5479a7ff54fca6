// One client's SCRAM exchange on its way to the server, without I/O. It is observed, so that the
// client's key can be recovered later; and where the server would take the proxy for an attacker
// who strips channel binding, it is translated: the client's "y" becomes "n", with proof and
// signature made anew for what each side saw. Why that is sound: router/auth/README.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/scram.hpp"

namespace banyan::protocol {

class ScramRelay {
   public:
    /// AuthenticationSASL: the list of mechanisms as the client shall see it, without -PLUS.
    /// nullopt: malformed, or nothing is left.
    std::optional<std::string> mechanisms(std::string_view list);

    /// The client's answers are SCRAM's, and go through from_client().
    bool under_way() const { return state_ != State::none && state_ != State::done; }

    /// The body of a client's SASLInitialResponse or SASLResponse, as the server shall see it.
    /// nullopt: with_verifier() must be called, and gives it.
    std::optional<std::string> from_client(std::string_view body);
    /// `verifier`: the role's on this server; null if it has none that is SCRAM's. A proof that
    /// does not fit it goes to the server as it came, which refuses it in its own words.
    std::string with_verifier(const ScramVerifier* verifier);

    /// AuthenticationSASLContinue's data, which the client sees unchanged.
    void challenge(std::string_view data);
    /// AuthenticationSASLFinal's data as the client shall see it. nullopt: the server could not
    /// prove that it knows the password.
    std::optional<std::string> signature(std::string_view data);

    /// After AuthenticationOk: what was observed, once; nullopt if there was no SCRAM.
    std::optional<ScramEvidence> take_evidence();

   private:
    enum class State : std::uint8_t { none, offered, first_sent, challenged, proof_sent, done };

    std::string first_from_client(std::string_view body);
    std::optional<std::string> final_from_client(std::string_view body);

    State state_ = State::none;
    bool plus_offered_ = false;
    bool translating_ = false;
    std::string client_first_bare_;  ///< empty: not understood, so not observed
    std::string server_first_;
    std::string without_proof_;  ///< of the client's last message
    Secret proof_;
    std::string server_auth_message_;   ///< what the server signs, if translating
    std::optional<Secret> server_key_;  ///< if translating, and the proof was right
    std::optional<ScramEvidence> evidence_;
};

}  // namespace banyan::protocol
