from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from alexnet.labels import Labels
from protos import caffe_pb2 as pb
from training.checkpoint import CheckpointError
from training.importers import load_model
from training.network import AlexNet

Arrays = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
SHAPES = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (64, 9216),
    "fc7": (64, 64),
    "fc8": (1000, 64),
}
# Layers without weights, and their positions in the file.
WITHOUT_WEIGHTS = {"data": 0, "relu1": 2, "norm1": 3, "pool1": 4, "prob": -1}

pytestmark = pytest.mark.usefixtures("narrow")


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    """Weights that preserve the scale of activations."""
    random = np.random.default_rng(0)

    def normal(shape: tuple[int, ...], sigma: float) -> NDArray[np.float32]:
        return random.normal(0, sigma, shape).astype(np.float32)

    sigmas = {name: (2 / np.prod(shape[1:])) ** 0.5 for name, shape in SHAPES.items()}
    return {name: (normal(s, sigmas[name]), normal(s[:1], 0.5)) for name, s in SHAPES.items()}


def blob(array: NDArray[np.float32], form: str) -> pb.BlobProto:
    values = array.ravel().tolist()
    if form == "old":
        num, channels, height, width = (1,) * (4 - array.ndim) + array.shape
        return pb.BlobProto(num=num, channels=channels, height=height, width=width, data=values)
    shape = pb.BlobShape(dim=array.shape)
    if form == "double":
        return pb.BlobProto(shape=shape, double_data=values)
    return pb.BlobProto(shape=shape, data=values)


def caffemodel(arrays: Arrays, form: str = "new") -> pb.NetParameter:
    names = list(arrays)
    for name, position in WITHOUT_WEIGHTS.items():
        names.insert(position % (len(names) + 1), name)
    net = pb.NetParameter(name="AlexNet")
    for name in names:
        blobs = [blob(array, form) for array in arrays.get(name, ())]
        if form == "old":
            net.layers.append(pb.V1LayerParameter(name=name, blobs=blobs))
        else:
            net.layer.append(pb.LayerParameter(name=name, blobs=blobs))
    return net


def put(folder: Path, net: pb.NetParameter) -> Path:
    path = folder / "bvlc_alexnet.caffemodel"
    path.write_bytes(net.SerializeToString())
    return path


def refusal(path: Path, classes: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(path, classes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


MEAN = torch.tensor([104.00699, 116.66877, 122.6789])


def compute_as_caffe(arrays: Arrays, pixels: NDArray[np.uint8], mean: Tensor = MEAN) -> Tensor:
    """BVLC's net on the pixels of RGB photos, which it takes as BGR minus its mean."""
    bgr = torch.from_numpy(pixels[..., ::-1].copy()) - mean
    x = bgr.permute(0, 3, 1, 2)
    tensors = {name: (torch.from_numpy(w), torch.from_numpy(b)) for name, (w, b) in arrays.items()}

    def convolve(
        x: Tensor, name: str, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> Tensor:
        return F.conv2d(x, *tensors[name], stride, padding, groups=groups).relu()

    def connect(x: Tensor, name: str) -> Tensor:
        return F.linear(x, *tensors[name])

    def normalise(x: Tensor) -> Tensor:
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1)

    x = F.max_pool2d(normalise(convolve(x, "conv1", stride=4)), 3, 2)
    x = F.max_pool2d(normalise(convolve(x, "conv2", padding=2, groups=2)), 3, 2)
    x = convolve(x, "conv3", padding=1)
    x = convolve(x, "conv4", padding=1, groups=2)
    x = F.max_pool2d(convolve(x, "conv5", padding=1, groups=2), 3, 2).flatten(1)
    return connect(connect(connect(x, "fc6").relu(), "fc7").relu(), "fc8")


@pytest.mark.parametrize("form", ["new", "old", "double"])
def test_it_computes_the_same_as_caffe(tmp_path: Path, form: str, arrays: Arrays) -> None:
    model = load_model(put(tmp_path, caffemodel(arrays, form)))
    assert (model.network.arch, model.crop, model.std) == ("alexnet-caffe", 227, (1, 1, 1))
    assert model.geometry == "warp"
    assert (model.labels, model.known) == (Labels.imagenet(), 1000)
    assert model.facts == {"lineage": ["caffe"], "commit": "unknown"}
    assert not model.network.training
    pixels = np.random.default_rng(1).integers(0, 256, (2, 227, 227, 3), np.uint8)
    with torch.inference_mode():
        logits = model.deployable(torch.from_numpy(pixels))
        expected = compute_as_caffe(arrays, pixels)
        mirrored = compute_as_caffe(arrays, pixels[..., ::-1])
    assert expected.std() > 1
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    assert not torch.allclose(logits, mirrored, rtol=0.1, atol=0.1), "the colours do not matter"


def mean_image() -> NDArray[np.float32]:
    """(3, 256, 256), BGR."""
    random = np.random.default_rng(4)
    coarse = random.uniform(60, 180, (3, 8, 8)).repeat(32, 1).repeat(32, 2)
    return (coarse + random.uniform(-5, 5, coarse.shape)).astype(np.float32)


@pytest.mark.parametrize("form", ["new", "old", "double"])
def test_its_mean_image_is_subtracted_where_the_crop_is(
    tmp_path: Path, form: str, arrays: Arrays
) -> None:
    """The crop of 227 px begins at (256 - 227) / 2 = 14 in the integers of data_transformer."""
    mean = mean_image()
    file = tmp_path / "imagenet_mean.binaryproto"
    file.write_bytes(blob(mean, form).SerializeToString())
    model = load_model(put(tmp_path, caffemodel(arrays)), mean=file)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 227, 227, 3), np.uint8)
    centre = torch.from_numpy(mean[:, 14:241, 14:241].transpose(1, 2, 0).copy())
    with torch.inference_mode():
        logits = model.deployable(torch.from_numpy(pixels))
        expected = compute_as_caffe(arrays, pixels, centre)
        plain = compute_as_caffe(arrays, pixels)
    scale = float(expected.std())
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3 * scale)
    assert (expected - plain).abs().max() > 0.05 * scale, "the image does not matter"
    assert model.mean == pytest.approx(centre.flip(2).mean((0, 1)).tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"text", " is no binaryproto"),
        (b"", " has the shape (0, 0, 0, 0), expected (3, 256, 256)"),
        (
            blob(np.zeros((3, 227, 227), np.float32), "old").SerializeToString(),
            " has the shape (1, 3, 227, 227), expected (3, 256, 256)",
        ),
        (
            blob(np.full((3, 256, 256), np.nan, np.float32), "old").SerializeToString(),
            " has values that are not finite",
        ),
        (
            blob(np.full((3, 256, 256), 256, np.float32), "old").SerializeToString(),
            " has values outside of 0 to 255",
        ),
        (None, " cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_no_mean_image_is_refused(
    tmp_path: Path, data: bytes | None, complaint: str, arrays: Arrays
) -> None:
    file = tmp_path / "mean.binaryproto"
    if data is not None:
        file.write_bytes(data)
    path = put(tmp_path, caffemodel(arrays))
    with pytest.raises(CheckpointError) as caught:
        load_model(path, mean=file)
    assert str(caught.value) == f"{file}{complaint}" or str(caught.value).startswith(
        f"{file}{complaint},"
    )


def change(net: pb.NetParameter, layer: str) -> pb.LayerParameter:
    return next(found for found in net.layer if found.name == layer)


def rename(net: pb.NetParameter) -> None:
    change(net, "fc7").name = "fc7_new"


def lose_bias(net: pb.NetParameter) -> None:
    del change(net, "conv2").blobs[1]


def lose_numbers(net: pb.NetParameter) -> None:
    del change(net, "conv2").blobs[1].data[-3:]


def lose_shape(net: pb.NetParameter) -> None:
    change(net, "conv2").blobs[1].ClearField("shape")


def turn(net: pb.NetParameter) -> None:
    change(net, "fc6").blobs[0].shape.dim[:] = (9216, 64)


def overstate(net: pb.NetParameter) -> None:
    change(net, "fc6").blobs[0].shape.dim[:] = (2**40, 2**40)


def negate(net: pb.NetParameter) -> None:
    change(net, "fc7").blobs[0].shape.dim[:] = (-64, -64)


def nest(net: pb.NetParameter) -> None:
    change(net, "conv2").blobs[1].shape.dim[:] = (2, 128)


def break_number(net: pb.NetParameter) -> None:
    change(net, "conv5").blobs[0].data[7] = float("inf")


def pool_first(net: pb.NetParameter) -> None:
    change(net, "norm1").name = "other"
    change(net, "pool1").name = "norm1"
    change(net, "other").name = "pool1"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (rename, " is no AlexNet of Caffe: it has no layer fc7"),
        (lose_bias, ": conv2 has 1 blobs, expected its weights and its biases"),
        (lose_numbers, ": conv2.bias holds 253 numbers, its shape says (256,)"),
        (lose_shape, ": conv2.bias has the shape (0, 0, 0, 0), expected (256,)"),
        (turn, ": fc6.weight has the shape (9216, 64), expected (64, 9216)"),
        (overstate, f": fc6.weight has the shape ({2**40}, {2**40}), expected (64, 9216)"),
        (negate, ": fc7.weight has the shape (-64, -64), expected (64, 64)"),
        (nest, ": conv2.bias has the shape (2, 128), expected (256,)"),
        (break_number, ": conv5.weight has values that are not finite"),
        (pool_first, " pools before it normalises: it is CaffeNet"),
    ],
)
def test_another_network_is_refused(
    tmp_path: Path, damage: Callable[[pb.NetParameter], None], complaint: str, arrays: Arrays
) -> None:
    net = caffemodel(arrays)
    damage(net)
    path = put(tmp_path, net)
    assert refusal(path).startswith(f"{path}{complaint}")


def test_numbers_too_large_for_single_precision_are_refused(tmp_path: Path, arrays: Arrays) -> None:
    net = caffemodel(arrays, "double")
    change(net, "conv1").blobs[1].double_data[0] = 1e300
    assert "conv1.bias has values that are not finite" in refusal(put(tmp_path, net))


def test_a_class_order_is_refused_since_it_is_known(tmp_path: Path, arrays: Arrays) -> None:
    path = put(tmp_path, caffemodel(arrays))
    assert "leave out --class-order" in refusal(path, tmp_path / "classes.txt")


@pytest.mark.parametrize("data", [b"", b"text", b"\xff" * 1000, b"\x80\x02}."])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.caffemodel"
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path} is no ")


@pytest.mark.parametrize("form", ["new", "old"])
def test_any_damage_to_the_file_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    network = AlexNet(1000, "alexnet-caffe", dropout=0.0)
    monkeypatch.setattr("training.importers.caffe.AlexNet", lambda *_, **__: network)
    one = np.ones(2, np.float32)
    small = {name: (np.ones((2,) * len(s), np.float32), one) for name, s in SHAPES.items()}
    path = put(tmp_path, caffemodel(small, form))
    whole = path.read_bytes()
    for end in range(0, len(whole), 11):
        path.write_bytes(whole[:end])
        refusal(path)
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        refusal(path)
