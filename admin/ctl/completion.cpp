#include "admin/ctl/completion.hpp"

#include <vector>

namespace banyan::ctl {
namespace {

struct Command {
    std::string name;
    std::string help;
    std::string words;  ///< options and arguments' values, separated by blanks
};

void add_words(const CLI::App& app, std::string& words) {
    for (const auto* option : app.get_options()) {
        for (const auto& name : option->get_lnames()) {
            words += (words.empty() ? "--" : " --") + name;
        }
    }
}

std::string one_line(const std::string& help) {
    std::string text;
    for (const char c : help) {
        text += c == '\'' ? std::string("'\\''") : c == ':' ? std::string(";") : std::string(1, c);
    }
    return text;
}

std::vector<Command> commands(const CLI::App& app) {
    std::vector<Command> all;
    for (const auto* sub : app.get_subcommands({})) {
        Command command{sub->get_name(), one_line(sub->get_description()), ""};
        add_words(*sub, command.words);
        if (command.name == "capture") command.words += " list install remove";
        if (command.name == "backfill") command.words += " start pause resume";
        if (command.name == "completion") command.words += " bash zsh fish";
        all.push_back(std::move(command));
    }
    return all;
}

std::string cases(const std::vector<Command>& all) {
    std::string text;
    for (const auto& it : all) {
        text += "        " + it.name + ") list=\"$list " + it.words + "\" ;;\n";
    }
    return text;
}

std::string names(const std::vector<Command>& all) {
    std::string text;
    for (const auto& it : all) {
        text += (text.empty() ? "" : " ") + it.name;
    }
    return text;
}

}  // namespace

std::string completion(const CLI::App& app, const std::string& shell) {
    const auto all = commands(app);
    std::string global;
    add_words(app, global);
    if (shell == "fish") {
        std::string text = "function __banyanctl_without_command\n    not __fish_seen_subcommand_from " +
                           names(all) +
                           "\nend\ncomplete -c banyanctl -f\n"
                           "complete -c banyanctl -n __banyanctl_without_command -a '" +
                           global + "'\n";
        for (const auto& it : all) {
            text += "complete -c banyanctl -n __banyanctl_without_command -a " + it.name + " -d '" +
                    it.help + "'\n";
            text += "complete -c banyanctl -n '__fish_seen_subcommand_from " + it.name + "' -a '" +
                    it.words + " " + global + "'\n";
        }
        return text;
    }
    const std::string choose = "    local list='" + global + "' name='' each\n    for each in " +
                               (shell == "zsh" ? "$words_before" : "\"${COMP_WORDS[@]:1:COMP_CWORD-1}\"") +
                               "; do\n        case \" " + names(all) +
                               " \" in *\" $each \"*) name=$each; break ;; esac\n    done\n"
                               "    case $name in\n        '') list=\"$list " +
                               names(all) + "\" ;;\n" + cases(all) + "    esac\n";
    if (shell == "bash") {
        return "_banyanctl() {\n" + choose +
               "    COMPREPLY=($(compgen -W \"$list\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n"
               "complete -F _banyanctl banyanctl\n";
    }
    return "#compdef banyanctl\n_banyanctl() {\n    local -a words_before=(${words[2,CURRENT-1]})\n" +
           choose + "    compadd -- ${=list}\n}\n"
           "if [[ $funcstack[1] = _banyanctl ]]; then _banyanctl \"$@\"; else compdef _banyanctl banyanctl; fi\n";
}

}  // namespace banyan::ctl
