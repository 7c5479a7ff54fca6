"""What `banyanctl completion` prints, loaded into a real bash, zsh and fish: each offers the same."""
import os
import pathlib
import pty
import re
import subprocess
import termios
import threading

import kit
import pytest
from shipped import run, tool

ZSH = r"""
setopt no_auto_list no_beep
autoload -Uz compinit
compinit -u -D
[[ $HOW = sourced ]] && source $SCRIPT
# Completion's own words, as zsh matches them with the line.
compadd() { local -a found; builtin compadd -O found "$@"; print -rl -- $found >> $OUT; builtin compadd "$@"; }
zle-line-init() {
    local each
    for each in "${(@f)$(< $LINES_FILE)}"; do
        BUFFER=${each%|} CURSOR=${#each}
        zle complete-word
        print -r -- = >> $OUT
    done
    exit
}
zle -N zle-line-init
"""
FISH = """
test $HOW = sourced; and source $SCRIPT
for each in (cat $LINES_FILE)
    complete --do-complete (string replace --regex '[|]$' '' -- $each)
    echo =
end >$OUT
"""
BASH = r"""
source "$SCRIPT"
while IFS= read -r each; do
    read -ra COMP_WORDS <<<"${each%|}"
    [[ $each = *' |' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    $(complete -p banyanctl | sed 's/.*-F \([^ ]*\).*/\1/') 2>&1
    [ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
    echo =
done <"$LINES_FILE" >"$OUT"
"""


def in_terminal(command, environment):
    """zsh completes in a terminal only."""
    primary, secondary = pty.openpty()
    termios.tcsetwinsize(secondary, (24, 80))
    process = subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, env=environment, start_new_session=True)
    os.close(secondary)
    shown = []

    def read():
        try:
            while text := os.read(primary, 65536):
                shown.append(text)
        except OSError:
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        process.wait(60 * kit.SLOW)
    finally:
        process.kill()
        process.wait()
        reader.join(10)
        os.close(primary)
    return b"".join(shown).decode(errors="replace")


# autoloaded: as a file where the shell looks for it when it first needs it.
@pytest.fixture(params=["bash sourced", "zsh sourced", "zsh autoloaded", "fish sourced", "fish autoloaded"])
def complete(request, tmp_path):
    """complete(line, ...): the set of words that the shell offers at the end of each line."""
    shell, how = request.param.split()
    home = tmp_path / "home"
    places = {"zsh": home / "functions" / "_banyanctl", "fish": home / ".config/fish/completions/banyanctl.fish"}
    script = places[shell] if how == "autoloaded" else tmp_path / "script"
    script.parent.mkdir(parents=True, exist_ok=True)
    programs = home / "bin"
    programs.mkdir(parents=True)
    (programs / "banyanctl").symlink_to(pathlib.Path(kit.CTL).resolve())  # fish asks whether there is one
    script.write_text(run(kit.CTL, "completion", shell).stdout)
    lines, out = tmp_path / "lines", tmp_path / "out"
    environment = {"HOME": str(home), "ZDOTDIR": str(home), "PATH": f"{programs}:/usr/bin:/bin", "TERM": "vt100", "LANG": "C.UTF-8", "HOW": how,
                   "SCRIPT": str(script), "LINES_FILE": str(lines), "OUT": str(out)}

    def ask(*texts):
        lines.write_text("".join(text + "|\n" for text in texts))  # the bar keeps blanks at the end
        out.write_text("")
        if shell == "zsh":
            (home / ".zshrc").write_text((f"fpath=({script.parent} $fpath)\n" if how == "autoloaded" else "") + ZSH)
            shown = in_terminal([tool("zsh"), "-d", "-i"], environment)
        else:
            shown = run(tool(shell), "-c", {"bash": BASH, "fish": FISH}[shell], env=environment).stdout
        answers = out.read_text().split("=\n")
        assert len(answers) == len(texts) + 1, (answers, shown)
        # fish: word, tab, description
        return [{line.split("\t")[0] for line in answer.splitlines() if line} for answer in answers[:-1]]

    return ask


def options(text):
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))


@pytest.fixture(scope="module")
def known():
    """(the commands, the options that all have, {command: its own options}), by --help."""
    help_text = run(kit.CTL, "--help").stdout
    first, rest = help_text.split("\nSubcommands:\n")
    commands = re.findall(r"^  (\w+) ", rest.split("\n\n")[0], re.M)
    assert {"status", "advance", "completion"} <= set(commands)
    return commands, options(first), {name: options(run(kit.CTL, name, "--help").stdout) for name in commands}


def test_the_start_of_a_word_is_completed(complete):
    found = complete("banyanctl adv", "banyanctl --js", "banyanctl --json stat", "banyanctl --url http://banyan:8432 roll", "banyanctl advance --o",
                     "banyanctl --json advance --reason why --dry", "banyanctl capture in", "banyanctl completion z", "banyanctl audit stat", "banyanctl nothing-like")
    assert found == [{"advance"}, {"--json"}, {"status"}, {"rollback"}, {"--override-gates"}, {"--dry-run"}, {"install"}, {"zsh"}, set(), set()]


def test_commands_and_options_are_all_offered(complete, known):
    commands, everywhere, own = known
    found = complete("banyanctl ", *(f"banyanctl {name} --" for name in commands))
    assert found[0] - everywhere == set(commands)
    for name, words in zip(commands, found[1:]):
        assert words == everywhere | own[name], name


def test_what_an_argument_may_be_is_offered(complete):
    found = complete("banyanctl capture ", "banyanctl backfill ", "banyanctl completion ")
    assert [{word for word in words if not word.startswith("-")} for words in found] == [
        {"list", "install", "remove"}, {"start", "pause", "resume"}, {"bash", "zsh", "fish"}]
