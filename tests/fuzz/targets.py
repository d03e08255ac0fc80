"""What is fuzzed: a reader, the seeds it starts from, and the errors that it may raise."""

import json
import lzma
import struct
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from alexnet.bundle import Bundle, BundleError
from alexnet.formats import FORMATS
from alexnet.header import read_header
from alexnet.preprocess import ImageTooLarge, InvalidImage, UnsupportedFormat, preprocess
from alexnet.spec import Preprocess
from protos import oip_pb2
from server.api import forms, wire
from server.api.oip import json as oip_json
from server.engines.graph import check_graph
from server.errors import ServeError
from tests.bundles import grey_bundle
from tests.fakes import tiny_bundle
from tests.photos import draw, encode

SPEC = Preprocess(64, 56)
MAX_PIXELS = 1_000_000
WRITTEN = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Formats that Pillow writes, where they are accepted."""


@dataclass(frozen=True)
class Target:
    """`read` takes any bytes; what it may raise are `errors`."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    errors: tuple[type[Exception], ...]
    memory_bytes: int = 64 << 20
    """That Python allocates; Pillow's pixels are not among them."""


def targets() -> dict[str, Target]:
    return {
        "photo": Target(_photo, _photos(), (ImageTooLarge, InvalidImage, UnsupportedFormat)),
        "bundle": Target(_archive, (_tar(),), (BundleError,)),
        "manifest": Target(_manifest, (_manifest_seed(),), (BundleError,)),
        "golden": Target(_golden, (tiny_bundle().files["golden.npz"],), (ValueError,)),
        "graph": Target(check_graph, (grey_bundle().files["model.fake"],), (BundleError,)),
        "oip json": Target(_framed, _framings(), (ServeError,)),
        "form": Target(_form, _forms(), (ServeError,)),
        "grpc": Target(_message, _messages(), (DecodeError,)),
    }


def _photo(data: bytes) -> None:
    header = read_header(data)
    if header is None or header.width * header.height <= MAX_PIXELS:
        preprocess(data, SPEC, MAX_PIXELS)


def _photos() -> tuple[bytes, ...]:
    picture = draw(96, 80)
    plain = [encode(picture, kind) for kind in WRITTEN if kind in FORMATS]
    return (
        *plain,
        encode(picture, "JPEG", progressive=True),
        encode(picture.convert("CMYK"), "JPEG"),
        encode(picture.convert("P"), "PNG", transparency=3),
        encode(picture.convert("L"), "PNG"),
        encode(picture, "WEBP", lossless=True),
    )


def _archive(data: bytes) -> None:
    """`data` is the tar; xz would refuse nearly all that is changed behind it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.tar.xz"
        path.write_bytes(lzma.compress(data, preset=0))
        _ = Bundle.open(path).golden


def _tar() -> bytes:
    bundle, buffer = tiny_bundle(), BytesIO()
    files = {"manifest.json": bundle.manifest.to_json().encode(), **bundle.files}
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), 1.5
            archive.addfile(entry, BytesIO(data))
    return buffer.getvalue()


def _manifest_seed() -> bytes:
    return tiny_bundle().manifest.to_json().encode()


def _manifest(data: bytes) -> None:
    type(tiny_bundle().manifest).from_json(data)


def _golden(data: bytes) -> None:
    bundle = tiny_bundle()
    type(bundle.golden).from_bytes(data, bundle.manifest.preprocess.crop, len(bundle.labels))


def _framings() -> tuple[bytes, ...]:
    """The length of the JSON, the JSON, and binary tensors behind it."""
    tensor = {"name": "images", "shape": [1, 2], "datatype": "BYTES"}
    binary = {**tensor, "parameters": {"binary_data_size": 12}}
    listed = {**tensor, "datatype": "FP32", "data": [[1.5, 2e3]]}
    seeds = []
    for inputs, tail in (([binary], b"\2\0\0\0ab\2\0\0\0cd"), ([listed], b"")):
        body = json.dumps({"id": "1", "inputs": inputs, "outputs": [{"name": "logits"}]}).encode()
        seeds.append(struct.pack("<H", len(body)) + body + tail)
    return tuple(seeds)


def _framed(data: bytes) -> None:
    (length,) = struct.unpack("<H", data[:2].ljust(2, b"\0"))
    oip_json.read(data[2:], length or None)


def _form(data: bytes) -> None:
    forms.photos(data, "multipart/form-data; boundary=edge")


def _forms() -> tuple[bytes, ...]:
    head = b'Content-Disposition: form-data; name="file"; filename="%s"\r\nContent-Type: image/png'
    parts = [b"\r\n".join((b"--edge", head % name, b"", b"photo")) for name in (b"a.png", b"\xe9")]
    form = b"\r\n".join((*parts, b"--edge--", b""))
    return form, b"before it\r\n" + form + b"behind it"


def _message(data: bytes) -> None:
    kind: Any = oip_pb2.ModelInferRequest.DESCRIPTOR
    wire.check(data, kind)
    oip_pb2.ModelInferRequest.FromString(data)


def _messages() -> tuple[bytes, ...]:
    request = oip_pb2.ModelInferRequest(model_name="alexnet", id="1")
    tensor = request.inputs.add(name="images", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(b"photo")
    request.raw_input_contents.append(b"\5\0\0\0photo")
    return (request.SerializeToString(),)
