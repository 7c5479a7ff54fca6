"""Docker and Kubernetes: neither is run. What can be checked without: that files parse, that names, ports and
paths that refer to one another agree, that Banyan accepts the configurations, and that the scripts do their work.
"""
import re
import stat
import tomllib

import kit
import pytest
import yaml
from shipped import DEPLOY, ROOT, run, tool

DOCKER, KUBERNETES = DEPLOY / "docker", DEPLOY / "kubernetes"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DOCKER / "compose.yml").read_text())


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    directory = tmp_path_factory.mktemp("docker") / "secrets"
    run(DOCKER / "prepare", directory)
    return directory


@pytest.fixture(scope="module")
def manifests():
    return [document for file in sorted(KUBERNETES.glob("*.yaml")) for document in yaml.safe_load_all(file.read_text())]


def one(manifests, kind, name):
    found = [document for document in manifests if (document["kind"], document["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, (kind, name)
    return found[0]


def check_config(text, directory):
    file = directory / "banyan.toml"
    file.write_text(text)
    run(kit.BINARY, "--config", file, "--check-config")
    return tomllib.loads(text)


# --- Docker ---

def test_prepare_makes_secrets_once(secrets):
    before = {file.name: file.read_text() for file in secrets.iterdir()}
    run(DOCKER / "prepare", secrets)
    assert before == {file.name: file.read_text() for file in secrets.iterdir()}
    assert len({text for name, text in before.items() if name != "banyan.toml"}) == len(before) - 1
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700 and "@" not in before["banyan.toml"]
    assert "/deploy/docker/secrets/" in (ROOT / ".gitignore").read_text()


def test_what_compose_refers_to_is_there(compose, secrets):
    made = {file.name for file in secrets.iterdir()}
    services = compose["services"]
    assert set(services) == {"source", "target", "banyan", "prometheus", "grafana"}
    for name, secret in compose["secrets"].items():
        assert secret["file"] == f"./secrets/{name}" and name in made
    used = set()
    host_ports = []
    for name, service in services.items():
        assert re.fullmatch(r"[\w./-]+:[\w.-]+", service["image"]) or "build" in service, name
        assert not service["image"].endswith(":latest")
        used |= set(service.get("secrets", []))
        assert set(service.get("depends_on", {})) <= set(services)
        for value in service.get("environment", {}).values():
            if str(value).startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in service["secrets"], (name, value)
        for volume in service.get("volumes", []):
            here = volume.split(":")[0]
            if here.startswith("./secrets/"):
                assert here.removeprefix("./secrets/") in made
            elif here.startswith("."):
                assert (DOCKER / here).resolve().exists(), here
            else:
                assert here in compose["volumes"], here
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port
            host_ports.append(port.split(":")[1])
    assert used == set(compose["secrets"]) and len(set(host_ports)) == len(host_ports)


def test_compose_banyan_and_prometheus_agree(compose, secrets, tmp_path):
    config = check_config((secrets / "banyan.toml").read_text(), tmp_path)
    services = compose["services"]
    inside = {port.split(":")[2] for port in services["banyan"]["ports"]}
    assert inside == {str(config["listen"]["port"]), str(config["admin"]["port"])}
    for side in ("source", "target"):
        assert config[side]["host"] in services and config[side]["user"] == services[side]["environment"]["POSTGRES_USER"]
        assert config[side]["database"] == services[side]["environment"]["POSTGRES_DB"]
        assert config[side]["password"] == (secrets / f"{side}-password").read_text()
    scrape = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    run(tool("promtool"), "check", "config", "--syntax-only", DOCKER / "prometheus.yml")
    job = scrape["scrape_configs"][0]
    host, port = job["static_configs"][0]["targets"][0].split(":")
    assert job["job_name"] == "banyan" and host in services and host in config["admin"]["allowed_hosts"] and int(port) == config["admin"]["port"]
    assert job["authorization"]["credentials_file"].removeprefix("/run/secrets/") in services["prometheus"]["secrets"]
    mounted = {volume.split(":")[1] for volume in services["prometheus"]["volumes"]}
    assert set(scrape["rule_files"]) <= mounted
    boards = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/banyan.yml").read_text())["providers"][0]["options"]["path"]
    assert boards in {volume.split(":")[1] for volume in services["grafana"]["volumes"]}
    url = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]["url"]
    assert url.removeprefix("http://").split(":")[0] in services


def test_the_dockerfile_builds_the_package_from_what_is_there():
    text = (DOCKER / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", text, re.M)
    assert [image for image, _ in stages] == ["debian:bookworm", "debian:bookworm-slim"]
    for script in re.findall(r"deploy/[\w/-]+", text.split("FROM", 1)[1]):
        assert (ROOT / script).exists(), script
    assert set(re.findall(r"--from=(\w+)", text)) == {"build"}
    assert re.search(r'^ENTRYPOINT \["/usr/bin/banyan"\]$', text, re.M) and re.search("^USER banyan$", text, re.M)


def test_the_databases_first_script_makes_the_application_s_role(source, secrets):
    source.create_database("composed", "postgres")
    source.sql("alter role app rename to app_of_the_tests")
    try:
        run(DOCKER / "init-roles.sh", env={"PATH": "/usr/bin:/bin", "PGHOST": "127.0.0.1", "PGPORT": str(source.port), "POSTGRES_USER": "postgres",
                                           "POSTGRES_DB": "composed", "APP_PASSWORD_FILE": str(secrets / "app-password")})
        assert source.sql("select rolcanlogin, rolpassword like 'SCRAM-SHA-256$%' from pg_authid where rolname = 'app'") == [(True, True)]
        source.sql("set session_replication_role = replica; create table t (id int primary key)", "composed", "app")
    finally:
        source.drop_database("composed")
        source.sql("drop owned by app; drop role app; alter role app_of_the_tests rename to app")


def test_the_health_check_tells_ready_from_not(compose, migration):
    command = compose["services"]["banyan"]["healthcheck"]["test"]
    assert command[0] == "CMD"
    banyan = migration("create table t (id int primary key)")
    check = [part.replace("/127.0.0.1/8432", f"/127.0.0.1/{banyan.admin_port}") for part in command[1:]]
    assert check != command[1:]
    run(*check)
    banyan.stop()
    assert run(*check, check=False).returncode != 0


# --- Kubernetes ---

def test_manifests_are_of_known_kinds_and_one_banyan(manifests):
    kinds = {"ConfigMap": "v1", "Secret": "v1", "Service": "v1", "StatefulSet": "apps/v1", "PodDisruptionBudget": "policy/v1",
             "ServiceMonitor": "monitoring.coreos.com/v1"}
    assert {document["kind"] for document in manifests} == set(kinds)
    assert len({(document["kind"], document["metadata"]["name"]) for document in manifests}) == len(manifests)
    for document in manifests:
        assert document["apiVersion"] == kinds[document["kind"]]
    assert one(manifests, "StatefulSet", "banyan")["spec"]["replicas"] == 1


def test_selectors_match_labels_and_names_exist(manifests):
    stateful = one(manifests, "StatefulSet", "banyan")["spec"]
    pod = stateful["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in stateful["template"]["spec"]["containers"][0]["ports"]}
    assert stateful["selector"]["matchLabels"].items() <= pod.items()
    services = [document for document in manifests if document["kind"] == "Service"]
    assert stateful["serviceName"] in {service["metadata"]["name"] for service in services}
    for service in services:
        assert service["spec"]["selector"].items() <= pod.items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)
    assert one(manifests, "PodDisruptionBudget", "banyan")["spec"]["selector"]["matchLabels"].items() <= pod.items()
    monitor = one(manifests, "ServiceMonitor", "banyan")
    chosen = [service for service in services if monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()]
    assert len(chosen) == 1 and chosen[0]["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "banyan"
    endpoint = monitor["spec"]["endpoints"][0]
    assert endpoint["port"] in {port["name"] for port in chosen[0]["spec"]["ports"]}
    credentials = endpoint["authorization"]["credentials"]
    assert credentials["key"] in one(manifests, "Secret", credentials["name"])["stringData"]
    spec = stateful["template"]["spec"]
    container = spec["containers"][0]
    volumes = {volume["name"] for volume in spec["volumes"]} | {claim["metadata"]["name"] for claim in stateful["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    for volume in spec["volumes"]:
        if "secret" in volume:
            one(manifests, "Secret", volume["secret"]["secretName"])
    for source in container["envFrom"]:
        one(manifests, "ConfigMap", source["configMapRef"]["name"])
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"]["path"] == path and container[probe]["httpGet"]["port"] in ports


def test_the_configuration_of_the_example_is_one_and_agrees(manifests, tmp_path):
    stateful = one(manifests, "StatefulSet", "banyan")["spec"]["template"]["spec"]
    container = stateful["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    config = check_config(one(manifests, "Secret", "banyan-config")["stringData"]["banyan.toml"], tmp_path)
    assert config["listen"]["port"] == ports["postgresql"] and config["admin"]["port"] == ports["admin"]
    assert config["state"]["directory"] in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert "banyan-admin" in config["admin"]["allowed_hosts"]
    shutdown = config["shutdown"]
    assert (shutdown["ready_delay_ms"] + shutdown["drain_timeout_ms"]) / 1000 + 3 < stateful["terminationGracePeriodSeconds"]
    version = re.search(r"project\(banyan VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
    assert container["image"] == f"banyan:{version}"


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_need_neither_token_nor_host(migration, path):
    banyan = migration("create table t (id int primary key)")
    status, _, _ = banyan.admin.request("GET", path, token=False, headers={"Host": "10.1.2.3.example"})
    assert status == 200
    assert banyan.admin.request("GET", "/metrics", token=False)[0] == 401


def test_scripts_are_bash():
    for script in (DOCKER / "prepare", DOCKER / "init-roles.sh", DEPLOY / "package/build-deb", DEPLOY / "install-packages"):
        run("bash", "-n", script)
        assert script.stat().st_mode & stat.S_IXUSR
