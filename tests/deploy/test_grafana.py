"""Boards: written by their script, expressions that Prometheus reads, and files that find one another."""
import json

import yaml
from shipped import BOARDS, DEPLOY, board_expressions, run, tool

GRAFANA = DEPLOY / "grafana"


def test_boards_are_what_their_script_writes():
    run("/usr/bin/python3", GRAFANA / "make-boards", "--check")
    assert [board.stem for board in BOARDS] == ["backfill", "discrepancies", "migration", "traffic"]


def test_each_expression_of_a_board_is_promql(tmp_path):
    file = tmp_path / "boards.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": [
        {"record": f"board:{number}", "expr": expression} for number, (_, _, expression) in enumerate(board_expressions())]}]}))
    run(tool("promtool"), "check", "rules", file)
    file.write_text(file.read_text().replace("rate(", "rate((", 1))
    assert run(tool("promtool"), "check", "rules", file, check=False).returncode != 0


def test_panels_have_titles_do_not_overlap_and_ask_the_chosen_data_source():
    uids = set()
    for board in BOARDS:
        content = json.loads(board.read_text())
        uids.add(content["uid"])
        variables = {variable["name"] for variable in content["templating"]["list"]}
        assert variables == {"datasource", "instance"}
        taken, ids, titles = set(), set(), set()
        for panel in content["panels"]:
            ids.add(panel["id"])
            titles.add(panel["title"])
            assert panel["datasource"]["uid"] == "${datasource}" and panel["targets"], panel["title"]
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells
            for target in panel["targets"]:
                assert 'instance="$instance"' in target["expr"] and target["legendFormat"], panel["title"]
        assert len(ids) == len(titles) == len(content["panels"]) <= 12
    assert len(uids) == len(BOARDS)


def test_provisioning_names_a_data_source_and_a_folder():
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["type"] == "prometheus" and source["url"].startswith("http://prometheus:")
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/banyan.yml").read_text())["providers"][0]
    assert provider["type"] == "file" and provider["options"]["path"].startswith("/")
