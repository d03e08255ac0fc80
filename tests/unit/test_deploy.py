"""What is in deploy/ is made from its sources, fits its schemas, and agrees with the server."""

import json
import re
import runpy
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prometheus_client import CollectorRegistry

from server.config import Config
from server.options import load
from server.telemetry.metrics import Metrics
from tests.paths import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def environment(container: dict[str, Any]) -> dict[str, str]:
    """What a reference to the container's own request of CPUs gives is the request."""
    cpus = container["resources"]["requests"]["cpu"]
    own = {"resourceFieldRef": {"resource": "requests.cpu"}}
    variables = container.get("env", [])
    assert all(each.get("valueFrom", own) == own for each in variables)
    return {each["name"]: each.get("value", cpus) for each in variables}


def memory(container: dict[str, Any]) -> int:
    return int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30


def schema(name: str) -> Any:
    """Of those that come with check-jsonschema, found without its imports."""
    spec = find_spec("check_jsonschema")
    if spec is None or spec.origin is None:
        pytest.skip("check-jsonschema is not installed")
    folder = Path(spec.origin).parent / "builtin_schemas" / "vendor"
    return json.loads((folder / f"{name}.json").read_text())


def test_what_is_generated_is_up_to_date() -> None:
    for name, text in runpy.run_path(str(DEPLOY / "generate.py"))["files"]().items():
        assert (DEPLOY / name).read_text() == text, f"{name} is stale: run make deploy"


@pytest.mark.parametrize("command", ["check", "test"])
def test_promtool_takes_the_rules_and_they_fire_when_they_should(command: str) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    name = {"check": "alerts.yaml", "test": "alerts_test.yaml"}[command]
    ran = subprocess.run(
        ["promtool", command, "rules", str(DEPLOY / "monitoring" / name)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_has_a_test() -> None:
    rules = read("monitoring/alerts.yaml")["groups"][0]["rules"]
    tested = {
        case["alertname"]
        for test in read("monitoring/alerts_test.yaml")["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert tested == {rule["alert"] for rule in rules}


def test_every_metric_in_a_query_is_one_of_the_servers() -> None:
    known = {"alexnet_workers", "alexnet_workers_ended_total"}  # of the supervisor
    known.add("alexnet_certificate_days_left")  # with TLS only
    for family in Metrics(CollectorRegistry()).registry.collect():
        ends = {"counter": ("_total",), "histogram": ("_sum", "_count", "_bucket")}
        known |= {family.name + end for end in ends.get(family.type, ("",))}
    text = (DEPLOY / "queries.toml").read_text()
    assert not set(re.findall(r"\b(alexnet_\w+)", text)) - known


def test_the_kubernetes_objects_fit_their_schemas() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    names = read("kubernetes/kustomization.yaml")["resources"]
    assert {path.name for path in KUBERNETES} == {
        *names, "kustomization.yaml"
    }  # fmt: skip
    for name in names:
        item = read(f"kubernetes/{name}")
        # The labels of kustomization.yaml are also the selectors.
        if item["kind"] == "Deployment":
            item["spec"]["selector"] = {"matchLabels": {"app.kubernetes.io/name": "alexnet"}}
        validator.validate(item, "1.30", strict=True)


def test_kustomize_renders_them_with_selectors() -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    ran = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    items = {item["kind"]: item for item in yaml.safe_load_all(ran.stdout)}
    labels = {"app.kubernetes.io/name": "alexnet"}
    assert items["Service"]["spec"]["selector"] == labels
    assert items["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert items["Deployment"]["spec"]["template"]["metadata"]["labels"] == labels
    assert items["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels


def test_the_compose_file_and_the_citation_fit_their_schemas() -> None:
    jsonschema.validate(read("compose.yaml"), schema("compose-spec"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    jsonschema.validate(citation, schema("citation-file-format"))


def test_what_the_compose_file_mounts_exists_and_its_options_are_the_servers() -> None:
    services = read("compose.yaml")["services"]
    for service in services.values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source
    asked = services["alexnet"]["environment"]
    assert all(re.fullmatch(r"\$\{\w+:-\}", value) for value in asked.values())
    assert load([], dict.fromkeys(asked, "")) == Config()


def test_a_pod_leaves_only_after_all_it_was_sent_is_answered() -> None:
    pod = read("kubernetes/deployment.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = load([], environment(container))
    before_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    needed_s = before_s + config.drain_delay_s + config.drain_timeout_s
    assert pod["terminationGracePeriodSeconds"] > needed_s
    probe = container["readinessProbe"]
    assert config.drain_delay_s > probe["periodSeconds"] * probe["failureThreshold"]
    assert memory(container) > 2 * config.max_photo_bytes + 2 * 350_000_000
    # Without a limit of the CPU the server sees the whole node.
    assert config.engine_threads == config.decode_threads == 2
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {
        "http": config.http_port, "grpc": config.grpc_port, "metrics": config.metrics_port
    }  # fmt: skip


def test_the_autoscaler_asks_for_what_the_adapter_serves() -> None:
    """Without the adapter it asks for nothing of it: then nothing would ever be taken away."""
    metrics = read("kubernetes/scaling.yaml")["spec"]["metrics"]
    assert [each["type"] for each in metrics] == ["Resource"]
    (patch,) = read("autoscaling/kustomization.yaml")["patches"]
    (added,) = yaml.safe_load(patch["patch"])
    (rule,) = read("autoscaling/adapter-values.yaml")["rules"]["custom"]
    assert rule["name"]["as"] == added["value"]["pods"]["metric"]["name"]
    if shutil.which("kubectl"):
        folder = str(DEPLOY / "autoscaling")
        made = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, check=True)
        items = {item["kind"]: item for item in yaml.safe_load_all(made.stdout)}
        scaling = items["HorizontalPodAutoscaler"]["spec"]["metrics"]
        assert [each["type"] for each in scaling] == ["Pods", "Resource"]


def test_prometheus_scrapes_the_pods_where_they_have_their_metrics() -> None:
    (container,) = read("kubernetes/deployment.yaml")["spec"]["template"]["spec"]["containers"]
    (endpoint,) = read("monitoring/podmonitor.yaml")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [each["name"] for each in container["ports"]]


def test_kserve_starts_the_server_with_options_that_it_has() -> None:
    runtime = read("kserve/runtime.yaml")
    (container,) = runtime["spec"]["containers"]
    filled = [argument.replace("{{.Name}}", "photos") for argument in container["args"]]
    config = load(filled, environment(container))
    assert config.model_name == "photos"  # which callers use, whatever the bundle is called
    assert container["name"] == "kserve-container"
    assert [each["containerPort"] for each in container["ports"]] == [config.http_port]
    assert container["readinessProbe"]["httpGet"]["port"] == config.http_port
    assert config.allowed_hosts == "*"  # a sidecar asks on the loopback, by the caller's name
    pod = read("kubernetes/deployment.yaml")["spec"]["template"]["spec"]
    startup = pod["containers"][0]["startupProbe"]
    for budget in ("periodSeconds", "failureThreshold"):
        assert container["startupProbe"][budget] == startup[budget]
    assert memory(container) == memory(pod["containers"][0])
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted[runtime["spec"]["volumes"][0]["name"]] == config.cache_dir
    model = read("kserve/service.yaml")["spec"]["predictor"]["model"]
    formats = [each["name"] for each in runtime["spec"]["supportedModelFormats"]]
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
