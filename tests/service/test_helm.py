"""The chart, rendered by Helm itself (as a library): it makes what kustomize makes, and more."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from alexnet import __version__
from server.options import load
from tests.environments import environment
from tests.paths import ROOT

FOLDER = Path(__file__).parent / "helm"
CHART = ROOT / "deploy" / "helm"
pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def helm() -> Path:
    return environment("helm", FOLDER / "requirements.txt")


def rendered(helm: Path, **values: Any) -> dict[str, Any]:
    """Kind -> object."""
    ran = subprocess.run(
        [helm, FOLDER / "render.py", CHART, json.dumps(values)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    made = [yaml.safe_load(text) for text in json.loads(ran.stdout).values()]
    return {item["kind"]: item for item in made if item}


def plain(item: Any) -> Any:
    """Without what kustomize does not have: the label of the release, order, tag."""
    if isinstance(item, dict):
        kept = {key: plain(value) for key, value in item.items()}
        kept.pop("app.kubernetes.io/instance", None)
        if isinstance(kept.get("image"), str):
            kept["image"] = kept["image"].partition(":")[0]
        if "env" in kept:
            kept["env"] = sorted(kept["env"], key=lambda variable: str(variable["name"]))
        return kept
    return [plain(each) for each in item] if isinstance(item, list) else item


def test_by_default_it_makes_what_kustomize_makes(helm: Path) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    ran = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "deploy" / "kubernetes")],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    theirs = {item["kind"]: item for item in yaml.safe_load_all(ran.stdout)}
    ours = rendered(helm)
    assert ours.keys() == theirs.keys()
    for kind, item in ours.items():
        assert plain(item) == plain(theirs[kind]), kind


def test_options_are_the_servers_and_the_objects_fit_their_schemas(helm: Path) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    options = {"tls-certificate": "/secrets/tls.crt", "tls-key": "/secrets/tls.key"}
    options |= {"model": "/models/mine", "drain-delay-s": "2.5"}
    made = rendered(helm, options=options, models={"claim": "bundles"}, secret="door")
    for item in made.values():
        validator.validate(item, "1.30", strict=True)
    pod = made["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = load([], {each["name"]: each.get("value", "2") for each in container["env"]})
    assert (config.tls_key, config.model) == ("/secrets/tls.key", "/models/mine")
    assert pod["terminationGracePeriodSeconds"] >= 5 + 2.5 + config.drain_timeout_s
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"
    metadata = made["Deployment"]["spec"]["template"]["metadata"]
    assert metadata["annotations"]["prometheus.io/scheme"] == "https"
    assert {port["appProtocol"] for port in made["Service"]["spec"]["ports"]} == {"https"}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert (mounted["models"], mounted["secret"]) == ("/models", "/secrets")
    assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
    assert container["image"] == f"alexnet:{__version__}"


def test_threads_that_are_named_are_named_once(helm: Path) -> None:
    def threads(**options: str) -> dict[str, str]:
        made = rendered(helm, options=options)["Deployment"]["spec"]["template"]["spec"]
        env = made["containers"][0]["env"]
        found = {each["name"][8:]: each.get("value", "cpus") for each in env}
        return {name: value for name, value in found.items() if name.endswith("_THREADS")}

    assert threads() == {"DECODE_THREADS": "cpus", "ENGINE_THREADS": "cpus"}
    named = {"engine-threads": "3"}
    assert threads(**named) == {"DECODE_THREADS": "cpus", "ENGINE_THREADS": "3"}
    assert threads(workers="2") == {}  # these would be of each worker


def test_scaling_by_queues_is_asked_for(helm: Path) -> None:
    values = {"autoscaling": {"min": 2, "max": 20, "cpu": 85, "queueSeconds": "50m"}}
    for asked, kinds in (({}, ["Resource"]), (values, ["Pods", "Resource"])):
        metrics = rendered(helm, **asked)["HorizontalPodAutoscaler"]["spec"]["metrics"]
        assert [each["type"] for each in metrics] == kinds


def test_a_value_of_a_wrong_kind_is_refused(helm: Path) -> None:
    wrongs: list[dict[str, Any]] = [
        {"options": {"cache-bytes": 5}}, {"optoins": {}}, {"options": {"http-port": "80"}}
    ]  # fmt: skip
    for wrong in wrongs:
        ran = subprocess.run(
            [helm, FOLDER / "render.py", CHART, json.dumps(wrong)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert ran.returncode != 0
        assert next(iter(wrong)) in ran.stderr or "http-port" in ran.stderr
