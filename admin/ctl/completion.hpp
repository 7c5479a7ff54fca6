// Scripts with which a shell completes banyanctl's commands and options, made from their
// description.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace banyan::ctl {

/// `shell`: "bash", "zsh" or "fish".
std::string completion(const CLI::App& app, const std::string& shell);

}  // namespace banyan::ctl
