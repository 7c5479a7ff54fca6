"""The runbook has every alert and every gate, and nothing that is gone: commands, options, keys, links."""
import re
import shlex
import tomllib

import kit
import pytest
from shipped import DEPLOY, ROOT, RUNBOOK, alerts, anchor, described_counters, gate_names, headings, run

TEXT = RUNBOOK.read_text()


def sections():
    """{part: [heading, ...]} of the third level below "Alerts" and "Gates"."""
    found, part = {}, ""
    for level, title in headings(RUNBOOK):
        if level == 1:
            part = title
        elif level == 3:
            found.setdefault(part, []).append(title)
    return found


def test_each_alert_has_its_heading_and_each_heading_its_alert():
    assert sorted(sections()["Alerts"]) == sorted(alerts())


def test_each_gate_has_its_heading_and_each_heading_its_gate():
    assert len(gate_names()) >= 20  # else the code is not read as it was meant
    assert sorted(sections()["Gates"]) == sorted(gate_names())


def test_each_section_says_what_to_do():
    for part, names in (("Alerts", ("Means", "Look", "Do")), ("Gates", ())):
        for title in sections()[part]:
            body = re.search(rf"^### {title}\n(.*?)(?=^#|\Z)", TEXT, re.M | re.S).group(1)
            for name in names:
                assert re.search(rf"^{name}: \S", body, re.M), (title, name)
            assert "Do:" in body or "As [" in body, title


def test_the_steps_of_the_table_name_the_gates_that_the_code_asks(migration):
    rows = dict(re.findall(r"^\| ([A-Z_]+ to [A-Z_]+) \| (.*) \|$", TEXT, re.M))
    asked = lambda banyan, to: sorted(gate["name"] for gate in banyan.admin.gates(to))
    banyan = migration("create table t (id int primary key)", "insert into t values (1)")
    for phase in ("DUAL_WRITE", "DUAL_READ", "SWITCHOVER"):
        now = banyan.admin.phase()
        assert sorted(rows[f"{now} to {phase}"].split(", ")) == asked(banyan, phase)
        banyan.lead_to(phase)
        if phase == "DUAL_READ":
            assert asked(banyan, "DUAL_WRITE") == []
        if phase == "DUAL_WRITE":
            assert asked(banyan, "INITIAL") == []
    for phase in ("DUAL_READ", "COMPLETE"):
        assert sorted(rows[f"SWITCHOVER to {phase}"].split(", ")) == asked(banyan, phase)


def code():
    blocks = re.findall(r"^```\n(.*?)^```", TEXT, re.M | re.S)
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", TEXT, flags=re.M | re.S)) + [
        line.split("#")[0].strip() for block in blocks for line in block.splitlines()]


def test_commands_and_their_options_exist():
    commands = [shlex.split(text)[1:] for text in code() if text.startswith("banyanctl ")]
    assert len(commands) > 20
    helps = {}
    for command in commands:
        name = command[0]
        if name not in helps:
            helps[name] = run(kit.CTL, name, "--help").stdout + run(kit.CTL, "--help").stdout
        assert f"banyanctl {name}" in helps[name], command
        for word in command[1:]:
            if word.startswith("--"):
                assert word in helps[name], command
    own = run(kit.BINARY, "--help").stdout
    for text in code():
        if text.startswith(("banyan ", "--")):
            for option in re.findall(r"--[\w-]+", text):
                assert option in own + "".join(helps.values()), text


def test_keys_of_the_configuration_exist():
    example = (DEPLOY / "banyan.example.toml").read_text()
    sections_of = {}
    name = ""
    for line in example.splitlines():
        if heading := re.match(r"#? ?\[+([\w.]+)\]+", line):
            name = heading.group(1)
        if key := re.match(r"#? ?(\w+) = ", line):
            sections_of.setdefault(name, set()).add(key.group(1))
        sections_of.setdefault(name, set())
    tomllib.loads(example)
    used = [text for text in code() if text.startswith("[")]
    assert len(used) > 10
    for text in used:
        section, key = re.match(r"\[+([\w.]+)\]+ ?(\w*)", text).groups()
        assert section in sections_of, text
        assert not key or key in sections_of[section], text


def test_metrics_exist():
    samples = (ROOT / "router/migration/samples.cpp").read_text()
    known = described_counters() | {"banyan_" + name for name in re.findall(r'out\.\w+\(\s*"(\w+)"', samples)}
    for name in re.findall(r"`(banyan_\w+)", TEXT):
        assert name in known, name


@pytest.mark.parametrize("file", sorted(DEPLOY.glob("*.md")), ids=lambda file: file.name)
def test_links_lead_somewhere(file):
    for link in re.findall(r"\]\(([^)]+)\)", file.read_text()):
        path, _, part = link.partition("#")
        target = file if not path else (file.parent / path).resolve()
        assert target.exists(), link
        if part:
            assert part in {anchor(title) for _, title in headings(target)}, link
