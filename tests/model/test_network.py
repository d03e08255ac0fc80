from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import noise, random_network
from training.layers import CrossMapNorm
from training.network import AlexNet, Deployable

# torchvision.models.alexnet().state_dict()
TORCHVISION = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}
TWO_COLUMNS = [34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000]
ONE_TOWER = [23_296, 307_392, 663_936, 884_992, 590_080, 37_752_832, 16_781_312, 4_097_000]
SMALL_TOWER = [*ONE_TOWER[:5], 2_099_200, 4_196_352, 2_049_000]
ALEXNET_MAPS = [
    (64, 55, 55), (64, 27, 27), (192, 27, 27), (192, 13, 13),
    (384, 13, 13), (256, 13, 13), (256, 13, 13), (256, 6, 6),
]  # fmt: skip
ORIGINAL_MAPS = [
    (96, 55, 55), (96, 55, 55), (96, 27, 27), (256, 27, 27), (256, 27, 27), (256, 13, 13),
    (384, 13, 13), (384, 13, 13), (256, 13, 13), (256, 6, 6),
]  # fmt: skip
ORIGINALS = [("alexnet2012", 224), ("alexnet2012-paper", 224), ("alexnet-caffe", 227)]


def abstract(arch: str) -> AlexNet:
    """The network at full size, without memory for its weights."""
    with torch.device("meta"):
        return AlexNet(arch=arch).eval()


def parameters(network: AlexNet) -> tuple[list[Tensor], list[Tensor | None]]:
    return [x.weight for x in network.layers], [x.bias for x in network.layers]


def one_tower(network: AlexNet, x: Tensor) -> Tensor:
    """`alexnet` written out layer by layer."""
    w, b = parameters(network)
    x = F.max_pool2d(F.conv2d(x, w[0], b[0], 4, 2).relu(), 3, 2)
    x = F.max_pool2d(F.conv2d(x, w[1], b[1], 1, 2).relu(), 3, 2)
    x = F.conv2d(x, w[2], b[2], 1, 1).relu()
    x = F.conv2d(x, w[3], b[3], 1, 1).relu()
    x = F.max_pool2d(F.conv2d(x, w[4], b[4], 1, 1).relu(), 3, 2)
    x = F.adaptive_avg_pool2d(x, 6).flatten(1)
    return F.linear(F.linear(F.linear(x, w[5], b[5]).relu(), w[6], b[6]).relu(), w[7], b[7])


def column_norm(x: Tensor, columns: int = 2, k: float = 2.0) -> Tensor:
    apart = x.reshape(len(x) * columns, -1, *x.shape[2:])
    return F.local_response_norm(apart, 5, alpha=1e-4, beta=0.75, k=k).reshape(x.shape)


def spatial_norm(x: Tensor) -> Tensor:
    return x / (1 + 1e-3 * F.avg_pool2d(x * x, 5, stride=1, padding=2)) ** 0.75


def original(network: AlexNet, x: Tensor) -> Tensor:
    """The networks of 2012 in evaluation mode, written out layer by layer."""
    w, b = parameters(network)
    if network.arch == "alexnet2012":
        x = F.conv2d(F.pad(x, (0, 3, 0, 3)), w[0], b[0], stride=4)
        x = F.max_pool2d(column_norm(x), 3, 2).relu()
        x = column_norm(F.conv2d(x, w[1], b[1], padding=2, groups=2).relu())
        x = F.max_pool2d(spatial_norm(x), 3, 2)
    else:
        caffe = network.arch == "alexnet-caffe"
        columns, k = (1, 1.0) if caffe else (2, 2.0)
        x = F.conv2d(x if caffe else F.pad(x, (0, 3, 0, 3)), w[0], b[0], stride=4)
        x = F.max_pool2d(column_norm(x.relu(), columns, k), 3, 2)
        x = F.conv2d(x, w[1], b[1], padding=2, groups=2)
        x = F.max_pool2d(column_norm(x.relu(), columns, k), 3, 2)
    x = F.conv2d(x, w[2], b[2], padding=1).relu()
    x = F.conv2d(x, w[3], b[3], padding=1, groups=2).relu()
    x = F.max_pool2d(F.conv2d(x, w[4], b[4], padding=1, groups=2).relu(), 3, 2).flatten(1)
    x = 0.5 * F.linear(x, w[5], b[5]).relu()
    x = 0.5 * F.linear(x, w[6], b[6]).relu()
    return F.linear(x, w[7], b[7])


@pytest.mark.parametrize(
    ("arch", "total", "layers"),
    [
        ("alexnet", 61_100_840, ONE_TOWER),
        ("alexnet-small", 10_814_248, SMALL_TOWER),
        ("alexnet2012", 60_965_224, TWO_COLUMNS),
        ("alexnet2012-paper", 60_965_224, TWO_COLUMNS),
        ("alexnet-caffe", 60_965_224, TWO_COLUMNS),
    ],
)
def test_each_layer_has_the_papers_number_of_parameters(
    arch: str, total: int, layers: list[int]
) -> None:
    network = abstract(arch)
    assert [sum(p.numel() for p in layer.parameters()) for layer in network.layers] == layers
    assert sum(p.numel() for p in network.parameters()) == total == sum(layers)
    assert network.fully_connected == network.layers[5:]
    assert network.classes == 1000


def test_its_state_dict_has_torchvisions_names_and_shapes() -> None:
    expected = {f"{name}.weight": shape for name, shape in TORCHVISION.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in TORCHVISION.items()}
    assert {k: tuple(v.shape) for k, v in abstract("alexnet").state_dict().items()} == expected


def test_the_columns_are_connected_as_in_2012() -> None:
    layers = abstract("alexnet2012").layers
    assert [tuple(layer.weight.shape) for layer in layers[:5]] == [
        (96, 3, 11, 11), (256, 48, 5, 5), (384, 256, 3, 3), (384, 192, 3, 3), (256, 192, 3, 3),
    ]  # fmt: skip


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(("arch", "side"), [("alexnet", 224), *ORIGINALS])
def test_the_maps_have_the_papers_sizes(arch: str, side: int) -> None:
    network, seen = AlexNet(1000, arch), []

    def see(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(tuple(output.shape[1:]))

    for module in network.features:
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | CrossMapNorm):
            module.register_forward_hook(see)
    network(torch.zeros(2, 3, side, side))
    assert seen == (ALEXNET_MAPS if arch == "alexnet" else ORIGINAL_MAPS)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("side", [224, 96])
def test_alexnet_computes_its_written_out_form(side: int) -> None:
    network, x = random_network("alexnet"), noise(2, 3, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), one_tower(network, x), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(("arch", "side"), ORIGINALS)
def test_the_networks_of_2012_compute_their_written_out_forms(arch: str, side: int) -> None:
    network, x = random_network(arch), noise(2, 3, side, side, scale=60)
    with torch.inference_mode():
        logits, expected = network(x), original(network, x)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("narrow")
def test_paper_and_code_have_different_orders_of_layers() -> None:
    code, paper = random_network("alexnet2012"), random_network("alexnet2012-paper")
    for ours, theirs in zip(code.layers, paper.layers, strict=True):
        theirs.load_state_dict(ours.state_dict())
    x = noise(2, 3, 224, 224, scale=60)
    with torch.inference_mode():
        expected = code(x)
        assert (paper(x) - expected).abs().mean() > 0.1 * expected.abs().mean()


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("arch", "convolutions"), [("alexnet2012", 0.03), ("alexnet2012-paper", 0.01)]
)
def test_weights_and_biases_begin_as_in_2012(arch: str, convolutions: float) -> None:
    torch.manual_seed(0)
    layers = AlexNet(1000, arch).layers
    sigmas = [0.01] * 2 + [convolutions] * 3 + [0.01] * 3
    assert [layer.weight.std().item() for layer in layers] == pytest.approx(sigmas, rel=0.05)
    assert [layer.weight.mean().item() for layer in layers] == pytest.approx([0] * 8, abs=1e-3)
    biases = [set(layer.bias.tolist()) for layer in layers if layer.bias is not None]
    assert biases == [{0.0}, {1.0}, {0.0}, {1.0}, {1.0}, {1.0}, {1.0}, {0.0}]


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("arch", "least"),
    [
        ("alexnet", 63), ("alexnet-bn", 63), ("alexnet-small", 63), ("alexnet2012", 64),
        ("alexnet-caffe", 67),
    ],
)  # fmt: skip
def test_any_size_from_the_smallest_gives_logits(arch: str, least: int) -> None:
    network = AlexNet(7, arch)
    for size in ((least, least), (227, 227), (70, 150)):
        assert network(torch.randn(2, 3, *size)).shape == (2, 7)
    with pytest.raises(RuntimeError, match="too small"):
        network(torch.randn(2, 3, least - 1, least - 1))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(("arch", "side", "width"), [
    ("alexnet-bn", 96, 2), ("alexnet-bn", 128, 3), ("alexnet2012", 64, 1), ("alexnet", 224, 6),
    ("alexnet-small-bn", 64, 1), ("alexnet-small-bn", 112, 2), ("alexnet-small", 128, 3),
])  # fmt: skip
def test_small_crops_train_as_if_their_maps_were_pooled(arch: str, side: int, width: int) -> None:
    torch.manual_seed(0)
    network = AlexNet(10, arch, dropout=0.0).train()
    x = torch.randn(4, 3, side, side)
    assert network.features(x).shape[-1] == width
    pooled = network.classifier(network.avgpool(network.features(x)).flatten(1))
    weights = [*network.parameters()]
    found = [
        (y.detach(), *torch.autograd.grad(y.square().sum(), weights)) for y in (network(x), pooled)
    ]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("side", [96, 128])
def test_dropout_of_small_crops_is_as_strong_as_of_their_pooled_maps(side: int) -> None:
    torch.manual_seed(0)
    network = AlexNet(10, "alexnet", dropout=0.4).train()
    maps = network.features(torch.rand(1, 3, side, side)).detach().expand(3000, -1, -1, -1)
    network.features = nn.Sequential()
    network.classifier = nn.Sequential(*[*network.classifier][:2])  # up to the first with weights
    with torch.no_grad():
        weight = network.fully_connected[0].weight.view(-1, 256, 6, 6)
        weight.copy_(weight[..., :1, :1].expand_as(weight))  # copies with the same weights
        ours, whole = network(maps), network.classifier(network.avgpool(maps).flatten(1))
    assert ours.var(0).sum() == pytest.approx(float(whole.var(0).sum()), rel=0.05)
    torch.testing.assert_close(ours.mean(0), whole.mean(0), rtol=0.1, atol=0.02)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("arch", ["alexnet", "alexnet2012"])
def test_dropout_acts_in_training_only(arch: str) -> None:
    network, x = random_network(arch), noise(2, 3, 64, 64)
    network.train()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    "constants", [{}, {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)}]
)
def test_deployable_takes_raw_pixels(constants: dict[str, tuple[float, ...]]) -> None:
    mean, std = constants.get("mean", (128,) * 3), constants.get("std", (64,) * 3)
    network = AlexNet(7).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    normalised = ((pixels - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        logits = Deployable(network, **constants)(torch.from_numpy(pixels))
        expected = one_tower(network, torch.from_numpy(normalised).float())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
