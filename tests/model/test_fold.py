"""A network for smaller crops computes what the whole one does, and can be made whole again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from export.parity import predictor
from export.to_onnx import to_onnx
from tests.networks import photos, random_model
from training.fold import fold, unfolded
from training.network import pooling


@pytest.mark.parametrize(("px", "side"), [(64, 1), (96, 2), (128, 3), (160, 4), (224, 6), (256, 7)])
def test_folded_it_computes_the_same(px: int, side: int) -> None:
    network = random_model("alexnet").network
    folded = fold(network, px)
    x = torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, whole = folded(x), network(x)
    assert folded.fully_connected[0].in_features == 256 * side**2
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
def test_unfolded_it_is_the_same_for_crops_of_that_size(side: int) -> None:
    weight = torch.randn(8, 256 * side**2, generator=torch.Generator().manual_seed(side))
    back = (unfolded(weight, 6).view(-1, 36) @ pooling(side, 6)).view(8, -1)
    torch.testing.assert_close(back, weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("px", [64, 112, 128, 224])
def test_the_small_one_is_folded_for_larger_crops_and_made_whole_again(px: int) -> None:
    network = random_model("alexnet-small").network
    folded = fold(network, px)
    x = torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, whole = folded(x), network(x)
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))
    if px >= 112:  # a smaller crop's places are fewer than those of the whole
        weight = unfolded(folded.fully_connected[0].weight, 2)
        torch.testing.assert_close(weight, network.fully_connected[0].weight, rtol=1e-3, atol=1e-4)


def test_too_small_a_crop_is_told() -> None:
    with pytest.raises(ValueError, match="sees nothing in a crop of 32 px"):
        fold(random_model("alexnet").network, 32)


def test_its_graph_computes_what_it_does() -> None:
    model = random_model("alexnet")
    model = replace(model, network=fold(model.network, 128), crop=128)
    crops = photos(128)
    with torch.inference_mode():
        expected = model.deployable(torch.from_numpy(crops)).numpy()
    np.testing.assert_allclose(predictor(to_onnx(model, 128))(crops), expected, atol=1e-3)
