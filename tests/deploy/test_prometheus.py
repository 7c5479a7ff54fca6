"""Alert rules: valid, unit-tested, and each of their tests can fail."""
import pytest
import yaml
from shipped import DEPLOY, ROOT, RULE_TESTS, RULES, alerts, anchor, headings, rules, run, selectors, tool


def unit_tests():
    return yaml.safe_load(RULE_TESTS.read_text())["tests"]


def test_rules_and_scrape_example_are_valid():
    run(tool("promtool"), "check", "rules", RULES)
    run(tool("promtool"), "check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.example.yml")


def test_the_unit_tests_of_the_rules_pass():
    run(tool("promtool"), "test", "rules", RULE_TESTS)


def test_each_alert_has_a_unit_test_and_there_are_quiet_ones():
    firing = "\n".join(sample["labels"] for test in unit_tests() for case in test.get("promql_expr_test", []) for sample in case["exp_samples"])
    missing = [name for name in alerts() if f'alertname="{name}"' not in firing]
    assert not missing, missing
    quiet = [test for test in unit_tests() if test["name"].startswith("quiet: ")]
    assert len(quiet) >= 3 and all(not case["exp_samples"] for test in quiet for case in test["promql_expr_test"])
    # The healthy one has the metrics of every alert, so that its silence means something.
    healthy = " ".join(series["series"] for series in quiet[0]["input_series"])
    wanted = {name for rule in rules() for name, _ in selectors(rule["expr"])}
    assert not {name for name in wanted if name + "{" not in healthy}


@pytest.mark.parametrize("instead, column", [("vector(1) > 2", "exp"), ("up >= 0", "got")], ids=["never", "always"])
def test_the_unit_tests_notice_each_alert_that_never_or_always_fires(tmp_path, instead, column):
    content = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in content["groups"] for rule in group["rules"] if "alert" in rule):
        rule.update({"expr": instead, "for": "0s"})
    (tmp_path / RULES.name).write_text(yaml.safe_dump(content))
    tests = yaml.safe_load(RULE_TESTS.read_text())
    if column == "got":  # the quiet ones, and sooner: so many alerts make promtool slow
        tests["tests"] = [test for test in tests["tests"] if test["name"].startswith("quiet: a healthy")]
        tests["tests"][0]["promql_expr_test"][0]["eval_time"] = "5m"
    (tmp_path / RULE_TESTS.name).write_text(yaml.safe_dump(tests))
    done = run(tool("promtool"), "test", "rules", tmp_path / RULE_TESTS.name, check=False)
    assert done.returncode == 1
    # Each failure shows what was expected ("exp") and what came ("got").
    shown = "".join(line for line in done.stdout.splitlines() if line.strip().startswith(column + ":"))
    assert not [name for name in alerts() if f'alertname="{name}"' not in shown], done.stdout[-3000:]


def test_each_alert_says_how_bad_what_and_where_to_read_on():
    for name, alert in alerts().items():
        assert set(alert["labels"]) == {"severity"} and alert["labels"]["severity"] in ("critical", "warning", "info"), name
        assert set(alert["annotations"]) == {"summary", "runbook_url"}, name
        file, _, link = alert["annotations"]["runbook_url"].partition("#")
        assert link == name.lower(), name
        assert link in {anchor(title) for _, title in headings(ROOT / file)}, name
