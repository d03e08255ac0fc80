"""The model before it may be asked: the artifact, the golden batch, the warm-up."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.bundle import BundleError
from alexnet.spec import batch_sizes
from server.engines import model
from server.engines.base import Pending
from server.engines.choice import Wanted
from server.engines.model import open_model
from tests.fakes import CLASSES, SIDE, tiny_bundle


class Recorder:
    """An engine that answers with zeros, which is what tiny_bundle's golden batch says."""

    name, threads, on_cpu, depth = "recorder", 1, True, 1

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.wrong: float = 0.0
        self.closed = False
        self.classes = CLASSES

    def begin(self, crops: Sequence[NDArray[np.uint8]]) -> Pending:
        return lambda: self.run(np.stack(crops))

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert crops.shape[1:] == (SIDE, SIDE, 3)
        assert crops.dtype == np.uint8
        self.sizes.append(len(crops))
        logits = np.zeros((len(crops), self.classes), np.float32)
        logits[:, 0] = self.wrong
        return logits

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    engine = Recorder()
    monkeypatch.setattr(model, "open_engines", lambda bundle, choice, wanted: (engine,))
    yield engine
    assert engine.sizes[0] == 1, "the golden batch goes first"


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [
        (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (5, [1, 2, 4, 5]),
        (32, [1, 2, 4, 8, 16, 32]), (48, [1, 2, 4, 8, 16, 32, 48]),
    ],
)  # fmt: skip
def test_every_power_of_two_up_to_the_largest_batch_is_warmed(
    largest: int, sizes: list[int]
) -> None:
    assert batch_sizes(largest) == sizes


def test_a_model_is_proven_and_then_warm(engine: Recorder) -> None:
    opened = open_model(tiny_bundle(), Wanted(max_batch_size=6))
    assert engine.sizes == [1, 1, 2, 4, 6]
    assert (opened.name, opened.build, opened.classes) == ("tiny", "1", CLASSES)
    assert opened.engine is engine


@pytest.mark.parametrize("wrong", [5.0, float("nan"), float("inf")])
def test_an_engine_that_computes_something_else_is_not_served(
    engine: Recorder, wrong: float
) -> None:
    engine.wrong = wrong
    with pytest.raises(BundleError, match=r"^tiny, model\.fake: "):
        open_model(tiny_bundle(), Wanted(max_batch_size=4))
    assert engine.sizes == [1], "it is not even warmed up"
    assert engine.closed, "what it holds is given back"


def test_an_engine_within_the_tolerance_is_served(engine: Recorder) -> None:
    engine.wrong = 0.05  # the probability of one class of ten rises from 0.100 to 0.105
    open_model(tiny_bundle(), Wanted(max_batch_size=1))


def test_an_engine_with_other_classes_is_not_served(engine: Recorder) -> None:
    engine.classes = CLASSES + 1
    with pytest.raises(BundleError, match="expected"):
        open_model(tiny_bundle(), Wanted(max_batch_size=4))


def test_an_artifact_that_the_runtime_cannot_load_is_a_bundle_error() -> None:
    with pytest.raises(BundleError, match=r"^tiny, model\.fake: .*ONNX"):
        open_model(tiny_bundle(), Wanted(max_batch_size=1))
