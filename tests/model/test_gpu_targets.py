"""What the GPU benchmark's figures are held against: the floors of a photo, and the targets."""

from math import prod
from typing import Any

import pytest

from alexnet.bundle import Bundle
from benchmarks.gpu.floor import PRECISIONS, floor_us, layers_of
from benchmarks.gpu.targets import targets
from gpu.typed import float_graph
from tests.paths import STARTER

SIDE = 224


@pytest.mark.parametrize(
    ("batch", "bf16", "fp8", "weight_only"),
    [(1, 29.1, 14.6, 15.5), (8, 40.6, 21.2, 27.0), (32, 80.8, 43.8, 67.1), (128, 241, 134, 231),
     (256, 463, 261, 463), (1024, 1852, 1045, 1852)],
)  # fmt: skip
def test_the_floors_match_a_calculation_by_hand(
    batch: int, bf16: float, fp8: float, weight_only: float
) -> None:
    """For an H200: 4.3 TB/s, 790 TFLOP/s in bf16, 1400 in fp8."""
    layers = layers_of(1000, SIDE)
    assert sum(layer.flop(1) for layer in layers) == 2 * 714_188_480
    floors = {
        name: floor_us(layers, batch, PRECISIONS[name], 4.3e12, flop)
        for name, flop in (("16 bit", 790e12), ("8 bit", 1400e12), ("fc weights 8 bit", 790e12))
    }
    assert list(floors.values()) == pytest.approx([bf16, fp8, weight_only], rel=2.5e-3)


def test_the_floors_count_the_weights_that_the_starter_has() -> None:
    bundle = Bundle.open(STARTER)
    (artifact,) = bundle.manifest.artifacts
    graph = float_graph(bundle.files[artifact.file]).graph
    constants = {each.name: list(each.dims) for each in graph.initializer}
    weights = [constants[n.input[1]] for n in graph.node if n.op_type in ("Conv", "Gemm")]
    layers = layers_of(bundle.manifest.model.classes, bundle.manifest.preprocess.crop)
    assert [layer.weights for layer in layers] == [prod(shape) for shape in weights]


def report_of(*rows: tuple[str, int, float, float]) -> dict[str, Any]:
    """`rows` are (name, size, microseconds, error)."""
    results = [
        {"name": n, "size": s, "us": us, "error": e, "failed": "", "of_rate": 100 / us}
        for n, s, us, e in rows
    ]
    return {
        "side": 224, "rows": results, "kernels": [], "jpeg": [], "machine": {"cores": 16},
    }  # fmt: skip


def test_targets_are_met_missed_or_not_measured() -> None:
    report = report_of(
        ("torch fp32", 1, 240, 0), ("ours", 1, 80, 0.01), ("wrong", 1, 1, 0.2),
        ("torch fp32", 256, 500, 0), ("ours", 256, 200, 0.01),
    )  # fmt: skip
    report["kernels"] = [
        {"name": f"response, conv{i}", "failed": "", "of_copy": share}
        for i, share in enumerate((0.69, 0.9))
    ]
    found = {t["target"].split(":")[0]: t["met"] for t in targets(report)}
    assert list(found.values()) == [True, False, True, None, False, None, False, None]
    reached = [t["reached"] for t in targets(report)]
    assert reached[0] == "80.0 µs: ours"
    assert reached[1] == "50%: ours"
    assert reached[2] == "3.00 times: ours"


def test_smaller_crops_and_more_cores_are_not_judged() -> None:
    report = report_of(("torch fp32", 1, 240, 0), ("ours", 1, 8, 0.01), ("ours", 256, 20, 0.01))
    report["jpeg"] = [{"name": "decode, then tensorrt fp16", "failed": "", "per_s": 9000.0}]
    assert [t["met"] for t in targets(report)].count(None) == 4
    small = targets(report | {"side": 128})
    assert {t["met"] for t in small} == {None}
    many = targets(report | {"machine": {"cores": 64}})
    assert [t["met"] for t in many].count(None) == 5
