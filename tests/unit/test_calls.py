"""A message is counted before it is parsed: what protobuf takes passes, what swells does not."""

import random

import pytest
from google.protobuf.message import DecodeError

from protos import classifier_pb2 as pb
from protos import oip_pb2
from server.api.calls import MAX_FIELDS, check_fields


def infer(images: int = 1) -> oip_pb2.ModelInferRequest:
    tensor = oip_pb2.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.extend([b"photo"] * 5000)
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
        infer(100),
        oip_pb2.RepositoryIndexRequest(ready=True),
    ],
    ids=lambda message: type(message).__name__,
)
def test_real_messages_pass(message: pb.ClassifyRequest) -> None:
    check_fields(message.SerializeToString())


def test_every_wire_type_that_is_used_is_passed_over() -> None:
    check_fields(b"\x08\xff\x01" + b"\x11" + bytes(8) + b"\x12\x02ab" + b"\x1d" + bytes(4))


def test_one_field_more_than_allowed_is_refused() -> None:
    check_fields(b"\x2a\x00" * MAX_FIELDS)
    with pytest.raises(DecodeError, match=f"over {MAX_FIELDS} fields"):
        check_fields(b"\x2a\x00" * (MAX_FIELDS + 1))


@pytest.mark.parametrize(
    "data", [b"\xff", b"\xff" * 20, b"\x08", b"\x12\xff", b"\x0b\x0c", b"\x0f"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        check_fields(data)


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
            check_fields(data)
        except DecodeError as error:
            refused.add(str(error).partition(" ")[0])
    assert refused == {"wire"}  # groups, which protobuf takes as unknown fields
