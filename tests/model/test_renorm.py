import pytest
import torch

from tests.networks import photos, random_model
from training.network import AlexNet
from training.plain import to_plain
from training.renorm import to_normed


def seen(crops: int = 32) -> torch.Tensor:
    return (torch.from_numpy(photos(96, crops)).permute(0, 3, 1, 2).float() - 128) / 64


@pytest.mark.usefixtures("narrow")
def test_a_network_with_norms_computes_what_the_plain_one_does() -> None:
    plain = random_model("alexnet").network
    x = seen()
    normed = to_normed(plain, x)
    assert normed.arch == "alexnet-bn"
    other = seen(40)[32:]  # not those that the norms were made from
    with torch.inference_mode():
        torch.testing.assert_close(normed(other), plain(other), rtol=1e-3, atol=1e-3)
        back = to_plain(normed)
        torch.testing.assert_close(back(other), plain(other), rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("narrow")
def test_in_training_the_norms_give_what_they_gave() -> None:
    """On the photos they were made from, batch statistics are the running ones."""
    plain = random_model("alexnet").network
    x = seen()
    normed = to_normed(plain, x)
    with torch.inference_mode():
        torch.testing.assert_close(normed.train()(x), plain(x), rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("narrow")
def test_a_channel_that_says_nothing_stays_finite() -> None:
    plain = AlexNet(10, dropout=0.0).eval()
    with torch.no_grad():
        plain.layers[1].weight[0] = 0
    normed = to_normed(plain, seen())
    with torch.inference_mode():
        assert torch.isfinite(normed(seen(4))).all()
