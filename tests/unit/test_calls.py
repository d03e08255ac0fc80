"""A message is counted before it is parsed: what protobuf takes passes, what swells does not."""

import random
from typing import Any

import pytest
from google.protobuf.message import DecodeError

from protos import classifier_pb2 as pb
from protos import oip_pb2
from server.api.wire import MAX_FIELDS, check

INFER: Any = oip_pb2.ModelInferRequest.DESCRIPTOR
INDEX: Any = oip_pb2.RepositoryIndexRequest.DESCRIPTOR


def infer(images: int = 1) -> oip_pb2.ModelInferRequest:
    tensor = oip_pb2.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.extend([b"photo"] * (512 // images))
    tensor.contents.uint_contents.extend([255] * 150_528)
    tensor.contents.fp64_contents.extend([0.5] * 300)
    return oip_pb2.ModelInferRequest(
        model_name="alexnet",
        inputs=[tensor] * images,
        raw_input_contents=[bytes(300)] * images,
        parameters={"timeout": oip_pb2.InferParameter(int64_param=1 << 60)},
    )


@pytest.mark.parametrize(
    "message",
    [
        pb.ClassifyRequest(image=bytes(1 << 20), top_k=5, timeout_ms=2**31 - 1, version="1"),
        pb.ClassifyRequest(),
        infer(),
        infer(50),
        oip_pb2.RepositoryIndexRequest(ready=True),
    ],
    ids=lambda message: type(message).__name__,
)
def test_real_messages_pass(message: Any) -> None:
    check(message.SerializeToString(), message.DESCRIPTOR)


def test_every_wire_type_that_is_used_is_passed_over() -> None:
    check(b"\x08\xff\x01" + b"\x11" + bytes(8) + b"\x12\x02ab" + b"\x1d" + bytes(4), INDEX)


def field(number: int, content: bytes) -> bytes:
    size = len(content)
    return bytes([number << 3 | 2, size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + content


@pytest.mark.parametrize("path", [(), (5,), (5, 5), (4, 2)], ids=str)
def test_one_field_more_than_allowed_is_refused_however_deep(path: tuple[int, ...]) -> None:
    """An empty photo in the contents of an input took 16 bytes for each of its two."""
    most = MAX_FIELDS - len(path)
    for count in (most, most + 1):
        data = b"\x42\x00" * count
        for number in reversed(path):
            data = field(number, data)
        if count == most:
            check(data, INFER)
        else:
            with pytest.raises(DecodeError, match=f"over {MAX_FIELDS} fields"):
                check(data, INFER)


def test_small_numbers_that_become_large_ones_are_bounded() -> None:
    check(field(5, field(3, b"\x01" * MAX_FIELDS)), INFER)
    with pytest.raises(DecodeError, match="field 3 of InferInputTensor has over 1000 numbers"):
        check(field(5, field(3, b"\x01" * (MAX_FIELDS + 1))), INFER)


@pytest.mark.parametrize(
    "data", [b"\xff", b"\xff" * 20, b"\x08", b"\x12\xff", b"\x0b\x0c", b"\x0f"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        check(data, INFER)


def test_of_what_protobuf_reads_only_groups_are_refused() -> None:
    rng, refused = random.Random(0), set()
    for _ in range(5000):
        data = bytes(
            rng.choice((8, 10, 18, 42, 123, 124, 0, 1, 2, 255)) for _ in range(rng.randrange(12))
        )
        try:
            oip_pb2.ModelInferRequest.FromString(data)
        except DecodeError:
            continue
        try:
            check(data, INFER)
        except DecodeError as error:
            refused.add(str(error).partition(" ")[0])
    assert refused == {"wire"}  # groups, which protobuf takes as unknown fields
