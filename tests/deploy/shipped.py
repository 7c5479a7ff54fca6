"""What deploy/ ships, as data: rules, boards, the runbook, and the names that the code knows."""
import json
import pathlib
import re
import shutil
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "banyan.rules.yml"
RULE_TESTS = DEPLOY / "prometheus" / "banyan.rules.test.yml"
BOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RUNBOOK = DEPLOY / "RUNBOOK.md"


def tool(name):
    found = shutil.which(name)
    assert found, f"{name} is missing: deploy/install-packages --operations"
    return found


def run(*command, check=True, **options):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 120, **options}
    done = subprocess.run([str(part) for part in command], check=False, **options)
    assert not check or done.returncode == 0, f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}"
    return done


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def board_expressions():
    """(board, panel, expression) with Grafana's variables filled in."""
    return [(board.stem, panel["title"], target["expr"].replace("$__rate_interval", "5m").replace("$instance", "localhost:8432"))
            for board in BOARDS for panel in json.loads(board.read_text())["panels"] for target in panel["targets"]]


def expressions():
    return ([(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]
            + [(f"{board}: {title}", expression) for board, title, expression in board_expressions()])


def selectors(expression):
    """(metric, {label: value or None}) of each selector; None if it is not an equality."""
    found = []
    for name, labels in re.findall(r"(?<![\w:\"])((?:banyan_|up\b)\w*)(?:\{([^}]*)\})?", re.sub(r'#.*', "", expression)):
        matchers = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', labels or ""))
        matchers.update({key: None for key in re.findall(r'(\w+)\s*(?:=~|!=|!~)', labels or "")})
        found.append((name, matchers))
    return found


def described_counters():
    text = (ROOT / "router/metrics/counter_descriptions.cpp").read_text()
    return {"banyan_" + name for name in re.findall(r'\{Counter::\w+,\s*"(\w+)"', text)}


def gate_names():
    text = (ROOT / "router/migration/gates.cpp").read_text()
    names = set(re.findall(r'(?:verdict|unknown)\(\s*"(\w+)"', text))
    for suffix in re.findall(r'std::string\(to_string\(side\)\) \+ "(_\w+)"', text):
        names |= {side + suffix for side in ("source", "target")}
    return names


def anchor(heading):
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def headings(file):
    """(level, text), but for code blocks."""
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.M | re.S)
    return [(len(marks), title.strip()) for marks, title in re.findall(r"^(#+) (.*)$", text, re.M)]
