"""Int8 where pairs of products saturate: the first layer in 7 bits, and nothing else changed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from alexnet import int8_kernels
from alexnet.bundle import Bundle
from alexnet.int8_kernels import saturates
from server.engines import on_cpu
from server.engines.on_cpu import open_on_cpu
from server.engines.ort import OrtEngine, session_options
from server.engines.saturation import narrowed
from tests.paths import STARTER


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(STARTER)


def graph(bundle: Bundle) -> bytes:
    return bundle.files[bundle.manifest.artifacts[0].file]


@pytest.mark.parametrize(
    ("flags", "so"),
    [
        ("flags\t\t: fpu avx avx2 fma", True),
        ("flags\t\t: fpu avx2 avx512f avx512bw", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),
        ("flags\t\t: fpu avx2 avx_vnni amx_int8", False),
        ("Features\t: fp asimd", False),
    ],
)
def test_it_goes_by_the_flags_of_the_cpu(
    tmp_path: Path, flags: str, so: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_kernels.platform, "machine", lambda: "x86_64")
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\n{flags}\nbugs\t: none\n")
    assert saturates(info) is so
    assert not saturates(tmp_path / "none")
    monkeypatch.setattr(int8_kernels.platform, "machine", lambda: "aarch64")
    assert not saturates(info)


@pytest.mark.parametrize("so", [True, False])
def test_exact_sums_are_asked_for_only_where_others_saturate(
    monkeypatch: pytest.MonkeyPatch, so: bool
) -> None:
    """With VNNI they take twice the time."""
    monkeypatch.setattr(int8_kernels, "saturates", lambda: so)
    options = session_options(1)
    if so:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError, match="does not have"):
            options.get_session_config_entry("session.x64quantprecision")


def test_the_first_layer_is_halved_and_its_scale_doubled(bundle: Bundle) -> None:
    before, after = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer}
        for data in (graph(bundle), b"".join(narrowed(graph(bundle))))
    )
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"w0_q", "w0_scale", "b0_q", "b0_scale"}
    assert np.abs(after["w0_q"]).max() == 64
    for stored, scale in (("w0_q", "w0_scale"), ("b0_q", "b0_scale")):
        was, now = (
            found[stored] * found[scale].reshape(-1, *[1] * (found[stored].ndim - 1))
            for found in (before, after)
        )
        step = before[scale].reshape(-1, *[1] * (was.ndim - 1))
        assert (np.abs(was - now) <= step * 1.001).all()
    onnx.checker.check_model(onnx.load_from_string(b"".join(narrowed(graph(bundle)))))


def test_a_graph_that_it_does_not_know_is_left_alone(bundle: Bundle) -> None:
    model = onnx.load_from_string(graph(bundle))
    for name in ("w0_zero", "b0_zero"):
        odd = onnx.ModelProto()
        odd.CopyFrom(model)
        (zero,) = (t for t in odd.graph.initializer if t.name == name)
        ones = np.ones_like(numpy_helper.to_array(zero))
        zero.CopyFrom(numpy_helper.from_array(ones, name))
        assert narrowed(odd.SerializeToString()) == []


@pytest.mark.parametrize(("tolerance", "narrow"), [(1.0, True), (1e-9, False)])
def test_it_serves_so_where_the_golden_batch_is_computed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tolerance: float, narrow: bool
) -> None:
    monkeypatch.setattr(on_cpu, "saturates", lambda: True)
    engine = open_on_cpu(("onnxruntime-cpu",), graph(bundle), bundle, "int8", tolerance, 1, 8)
    assert isinstance(engine, OrtEngine)
    assert engine.exact is not narrow


def test_seven_bits_move_the_starters_probabilities_little(bundle: Bundle) -> None:
    """On a CPU that saturates; on another only 7 bits are tried. Where this is more than the golden
    batch allows, sums are exact there."""
    exact, narrow = (
        OrtEngine(graph(bundle), bundle.manifest, 1, narrow=narrow) for narrow in (False, True)
    )
    crops, tolerance = bundle.golden.crops, bundle.manifest.artifacts[0].tolerance
    assert bundle.golden.difference(exact.run(crops)) < tolerance
    assert bundle.golden.difference(narrow.run(crops)) < 0.1
