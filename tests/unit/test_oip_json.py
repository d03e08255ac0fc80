"""Bodies of the Open Inference Protocol over HTTP, good and hostile."""

import base64
import gc
import json
import time
from typing import Any

import numpy as np
import pytest

from server.api.oip.json import _BOUNDS, InferRequest, parse, read, write
from server.api.oip.tensors import Output
from server.errors import BadRequest

BASE64 = {"content_type": "base64"}


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["a"], **changes}


def body(*inputs: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({"inputs": inputs or [tensor()], **changes}).encode()


def binary(header: bytes, *tensors: bytes) -> tuple[bytes, int]:
    return b"".join((header, *tensors)), len(header)


def test_strings_are_the_bytes_of_their_utf_8() -> None:
    request = read(body(tensor(data=["é", "b"], shape=[2]), id="7"), None)
    assert request.id == "7"
    assert (request.inputs[0].shape, request.inputs[0].elements) == ((2,), [b"\xc3\xa9", b"b"])


@pytest.mark.parametrize("nested", [False, True])
def test_photos_come_as_base64_that_is_announced(nested: bool) -> None:
    text = base64.b64encode(b"\xff\xd8photo").decode()
    given = tensor(data=[[text]] if nested else [text], parameters={"content_type": "base64"})
    assert read(body(given), None).inputs[0].elements == [b"\xff\xd8photo"]


@pytest.mark.parametrize(
    "written",
    [
        base64.encodebytes(bytes(range(251, 256)) * 50).decode(),
        base64.b64encode(bytes(range(251, 256)) * 50).decode().rstrip("="),
        base64.urlsafe_b64encode(bytes(range(251, 256)) * 50).decode(),
        "data:image/jpeg;base64," + base64.b64encode(bytes(range(251, 256)) * 50).decode(),
        "DATA:;base64,\r\n" + base64.b64encode(bytes(range(251, 256)) * 50).decode(),
    ],
    ids=["lines", "no padding", "of URLs", "data URL", "data URL of no type"],
)
def test_base64_is_read_as_programs_write_it(written: str) -> None:
    given = tensor(data=[written], parameters=BASE64)
    assert read(body(given), None).inputs[0].elements == [bytes(range(251, 256)) * 50]


def test_null_is_as_good_as_absent() -> None:
    nothing = dict.fromkeys(("classification", "binary_data", "shared_memory_region", "timeout"))
    given = {**tensor(), "parameters": {"binary_data_size": None, "content_type": None}}
    for outputs in (None, [{"name": "probabilities", "parameters": None}]):
        for parameters in (None, nothing):
            request = read(body(given, id=None, outputs=outputs, parameters=parameters), None)
            assert (request.id, request.parameters, request.binary) == (None, {}, False)
            assert [output.parameters for output in request.outputs] in ([], [{}])
    assert read(body(tensor(parameters=None)), None).inputs[0].elements == [b"a"]


def test_binary_tensors_follow_the_json_in_order() -> None:
    sizes = [tensor(parameters={"binary_data_size": n}) for n in (3, 0, 2)]
    whole_body, length = binary(body(*sizes), b"abc", b"", b"de")
    request = read(whole_body, length)
    assert [bytes(i.raw or b"") for i in request.inputs] == [b"abc", b"", b"de"]


@pytest.mark.parametrize(
    ("outputs", "default", "expected"),
    [
        (None, None, False),
        (None, True, True),
        ([{}], None, False),
        ([{}], True, True),
        ([{"binary_data": True}], None, True),
        ([{"binary_data": False}], True, False),
    ],
)
def test_an_output_is_binary_when_it_or_the_request_says_so(
    outputs: list[dict[str, bool]] | None, default: bool | None, expected: bool
) -> None:
    asked = [{"name": "probabilities", "parameters": parameters} for parameters in outputs or []]
    parameters = {} if default is None else {"binary_data_output": default}
    assert read(body(outputs=asked, parameters=parameters), None).binary is expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 10_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"inputs": 3}', "inputs must be a list, not '3'"),
        (b'{"inputs": [3]}', r"inputs\[0\] must be a JSON object"),
        (b'{"inputs": [{}]}', r"inputs\[0\] has no name"),
        (b'{"id": 3}', "id must be a string"),
        (body(tensor(name=3)), "name must be a string"),
        (body(tensor(shape="1")), "shape must be a list"),
        (body(tensor(shape=[1.0])), "shape must be a list of whole numbers"),
        (body(tensor(data=None)), r"inputs\[0\] has no data"),
        (body(tensor(data="a")), "data must be a list"),
        (body(tensor(data=[3])), "every element of BYTES must be a string"),
        (body(tensor(data=["\ud800"])), "no low surrogate"),
        (body(tensor(data=["?"], parameters=BASE64)), r"inputs\[0\]: data .* is none"),
        (body(tensor(data=["abcd=f"], parameters=BASE64)), r"inputs\[0\]: data .* is none"),
        (body(tensor(data=["/9j/4AAQSkZJRgABAQ"])), '{"content_type": "base64"} must announce'),
        (body(tensor(data=["data:image/png;base64,iVBOR"])), "looks like base64"),
        (body(tensor(parameters={"shared_memory_region": "r"})), "no shared memory"),
        (body(tensor(parameters={"binary_data_size": 1})), "whole number from 0 to 0, not '1'"),
        (body(outputs=[{}]), r"outputs\[0\] has no name"),
        (body(parameters=[]), "parameters must be an object"),
    ],
)
def test_what_is_wrong_with_a_body_is_said(given: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read(given, None)


def test_the_json_is_no_longer_than_the_body() -> None:
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length"):
        read(body(), 10_000)


@pytest.mark.parametrize("size", [-1, 4, 1 << 60, "3"])
def test_a_binary_tensor_is_no_larger_than_the_body(size: Any) -> None:
    given, length = binary(body(tensor(parameters={"binary_data_size": size})), b"abc")
    with pytest.raises(BadRequest, match="binary_data_size"):
        read(given, length)


def test_bytes_after_the_last_tensor_are_refused() -> None:
    given, length = binary(body(tensor(parameters={"binary_data_size": 1})), b"abc")
    with pytest.raises(BadRequest, match="2 bytes follow the last binary tensor"):
        read(given, length)


@pytest.mark.parametrize("bound", _BOUNDS)
def test_json_that_would_take_all_time_and_memory_is_not_parsed(
    bound: tuple[bytes, int, str],
) -> None:
    sign, most, what = bound
    with pytest.raises(BadRequest, match=f"the JSON has over {most:,} {what}"):
        parse(sign * (most + 1))


NUMBERS, PIXELS = b"127," * 450_000 + b"0", b"[1,2,3]," * 150_000 + b"[]"
TEXT = base64.b64encode(bytes(10_000_000))


@pytest.mark.parametrize("data", [NUMBERS, PIXELS, b'"%b"' % TEXT])
def test_the_most_that_is_parsed_is_parsed_soon(data: bytes) -> None:
    """Nothing else runs meanwhile."""
    start = time.process_time()
    assert parse(b'{"data":[%b]}' % data)["data"]
    assert time.process_time() - start < 0.2  # Python's own takes half a second for the pixels
    assert gc.isenabled()


def test_json_with_a_byte_order_mark_is_read() -> None:
    """As some programs of Windows write it."""
    assert parse("{}".encode("utf-8-sig")) == {}


FLOATS = Output("p", "FP32", (1, 2), np.array([[0.25, 0.75]], np.float32))
TEXTS = Output("p", "BYTES", (1, 1), [b"0.75:1:tench"])


@pytest.mark.parametrize(("output", "data"), [(FLOATS, [0.25, 0.75]), (TEXTS, ["0.75:1:tench"])])
def test_an_answer_in_json_is_flat(output: Output, data: list[Any]) -> None:
    answer, length = write("m", "2", InferRequest(None, {}, [], []), output)
    assert length is None
    assert json.loads(answer) == {
        "model_name": "m",
        "model_version": "2",
        "outputs": [
            {"name": "p", "datatype": output.datatype, "shape": list(output.shape), "data": data}
        ],
    }


@pytest.mark.parametrize("output", [FLOATS, TEXTS])
def test_a_binary_answer_follows_the_json(output: Output) -> None:
    request = InferRequest("7", {"binary_data_output": True}, [], [])
    answer, length = write("m", "2", request, output)
    assert length is not None
    header = json.loads(answer[:length])
    assert header["id"] == "7"
    assert header["outputs"][0]["parameters"] == {"binary_data_size": len(output.raw())}
    assert answer[length:] == output.raw()
