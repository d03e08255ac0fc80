"""Every runtime and precision, opened as by the server, with the starter's golden batch."""

from pathlib import Path

import numpy as np
import pytest

from alexnet.bundle import Bundle, BundleError
from alexnet.postprocess import softmax
from gpu.present import count
from server.engines.choice import Wanted, choose
from server.engines.model import open_model
from server.engines.runtimes import RUNTIMES
from tests.paths import STARTER

pytestmark = pytest.mark.gpu
ALL = [(r.name, precision) for r in RUNTIMES if r.on_gpu for precision in r.precisions]


@pytest.mark.parametrize(("engine", "precision"), ALL)
def test_the_starter_passes_its_golden_batch(engine: str, precision: str, tmp_path: Path) -> None:
    bundle = Bundle.open(STARTER)
    devices = tuple(range(count()))
    wanted = Wanted(engine, precision, devices, max_batch_size=8, cache_dir=tmp_path)
    try:
        choose(bundle, wanted)
    except BundleError as error:
        pytest.skip(str(error))
    model = open_model(bundle, wanted)  # the golden batch, and every size
    crops = np.resize(bundle.golden.crops, (8, *bundle.golden.crops.shape[1:]))
    whole = softmax(model.engine.run(crops))
    for each in model.engines:
        for size in (1, 3, 8):
            part = softmax(each.run(crops[:size]))
            assert np.abs(part - whole[:size]).max() < 0.02
        first, second = each.begin(list(crops[:2])), each.begin(list(crops[2:5]))
        assert np.abs(softmax(first()) - whole[:2]).max() < 0.02
        assert np.abs(softmax(second()) - whole[2:5]).max() < 0.02
        each.close()
