"""Caffe's AlexNet, `bvlc_alexnet.caffemodel`: protobuf, with BGR pixels minus their mean as input.

The mean is an image in a file of its own, imagenet_mean.binaryproto; without it each channel has
one mean. The fields are in protos/caffe.proto. CaffeNet has the same format and shapes but pools
before it normalises: it is recognised by the order of its layers, and refused.
"""

import math
from pathlib import Path

import numpy as np
import torch
from google.protobuf.message import DecodeError
from torch import Tensor

from alexnet.bundle import sha256
from protos import caffe_pb2 as pb
from training.checkpoint import CheckpointError
from training.importers.base import TrainedModel, central, imagenet_model, to_float32
from training.network import ARCHITECTURES, AlexNet

ARCH = "alexnet-caffe"
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
MEAN = (122.6789, 116.66877, 104.00699)  # RGB: Caffe's mean image, averaged
SIDE = 256  # px: of the mean image
STD = (1.0, 1.0, 1.0)


@torch.no_grad()
def load(path: Path, mean: Path | None = None) -> TrainedModel:
    """`mean` as in load_model."""
    data = path.read_bytes()
    net = pb.NetParameter()
    try:
        net.ParseFromString(data)
    except DecodeError:
        raise CheckpointError(f"{path} is no caffemodel, or only a part of one") from None
    blobs = _blobs(net, path)
    network = AlexNet(1000, ARCH, dropout=0.0)
    for name, layer in zip(LAYERS, network.layers, strict=True):
        assert layer.bias is not None
        weight, bias = blobs[name]
        layer.weight.copy_(_tensor(weight, (*layer.weight.shape,), f"{path}: {name}.weight"))
        layer.bias.copy_(_tensor(bias, (*layer.bias.shape,), f"{path}: {name}.bias"))
    first = network.layers[0].weight
    first.copy_(first.flip(1))  # BGR -> RGB
    crop = ARCHITECTURES[ARCH].crop
    image = None if mean is None else central(_mean_image(mean), crop, str(mean))
    return imagenet_model(
        network, MEAN, STD, sha256(data),
        source="caffe", crop=crop, geometry="warp", image=image,
    )  # fmt: skip


def _mean_image(path: Path) -> Tensor:
    """(3, SIDE, SIDE), RGB."""
    blob = pb.BlobProto()
    try:
        blob.ParseFromString(path.read_bytes())
    except DecodeError:
        raise CheckpointError(f"{path} is no binaryproto, or only a part of one") from None
    return _tensor(blob, (3, SIDE, SIDE), str(path)).flip(0)


def _blobs(net: pb.NetParameter, path: Path) -> dict[str, tuple[pb.BlobProto, pb.BlobProto]]:
    """The weights and the biases of each of LAYERS."""
    layers = {layer.name: layer.blobs for layer in net.layers}
    layers |= {layer.name: layer.blobs for layer in net.layer}
    blobs = {}
    for name in LAYERS:
        if name not in layers:
            raise CheckpointError(f"{path} is no AlexNet of Caffe: it has no layer {name}")
        found = layers[name]
        if len(found) != 2:
            raise CheckpointError(
                f"{path}: {name} has {len(found)} blobs, expected its weights and its biases"
            )
        blobs[name] = found[0], found[1]
    order = list(layers)
    if {"norm1", "pool1"} <= layers.keys() and order.index("pool1") < order.index("norm1"):
        raise CheckpointError(
            f"{path} pools before it normalises: it is CaffeNet, and only bvlc_alexnet is supported"
        )
    return blobs


def _tensor(blob: pb.BlobProto, shape: tuple[int, ...], what: str) -> Tensor:
    old = (blob.num, blob.channels, blob.height, blob.width)
    declared = tuple(blob.shape.dim) if blob.HasField("shape") else old
    if declared != (1,) * (len(declared) - len(shape)) + shape:
        raise CheckpointError(f"{what} has the shape {declared[:8]}, expected {shape}")
    values = np.array(blob.data, np.float32)
    if blob.double_data:
        values = np.array(blob.double_data, np.float64)
    if len(values) != math.prod(shape):
        raise CheckpointError(f"{what} holds {len(values)} numbers, its shape says {shape}")
    return to_float32(torch.from_numpy(values.reshape(shape)), shape, what)
