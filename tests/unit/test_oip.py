"""Tensors of the Open Inference Protocol <-> photos and probabilities; what is wrong is said."""

import struct
from typing import Any

import numpy as np
import pytest

from alexnet.labels import Label, Labels
from server.api.oip.tensors import Input, Requested, Signature, clipped, whole
from server.errors import BadRequest

LABELS = Labels(tuple(Label(f"s{i}", f"class {i}, number {i}") for i in range(5)))
PHOTOS = Signature("m", "image", "BYTES", (1,), LABELS, 4)
PIXELS = Signature("m_pixels", "pixels", "UINT8", (2, 2, 3), LABELS, 4)


def framed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(e)) + e for e in elements)


def photos(shape: tuple[int, ...] = (1,), **content: Any) -> Input:
    return Input("image", "BYTES", shape, **content)


def pixels(shape: tuple[int, ...] = (1, 2, 2, 3), **content: Any) -> Input:
    return Input("pixels", "UINT8", shape, **content)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_photos_come_raw_or_element_by_element(shape: tuple[int, ...]) -> None:
    expected = [b"first", b""]
    assert PHOTOS.images([photos(shape, raw=framed(*expected))]) == expected
    assert PHOTOS.images([photos(shape, raw=memoryview(framed(*expected)))]) == expected
    assert PHOTOS.images([photos(shape, elements=expected)]) == expected


@pytest.mark.parametrize(
    "elements",
    [
        list(range(24)),
        np.arange(24).reshape(2, 2, 2, 3).tolist(),
        [list(range(12)), list(range(12, 24))],
    ],
)
def test_pixels_come_raw_or_as_lists_that_may_be_nested(elements: list[Any]) -> None:
    expected = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    raw = PIXELS.images([pixels((2, 2, 2, 3), raw=expected.tobytes())])
    typed = PIXELS.images([pixels((2, 2, 2, 3), elements=elements)])
    np.testing.assert_array_equal(np.stack(raw), expected)
    np.testing.assert_array_equal(np.stack(typed), expected)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Input("picture", "BYTES", (1,)), "exactly one input, 'image'; got 'picture'"),
        (Input("x" * 99, "BYTES", (1,)), "x…"),
        (Input("image", "UINT8", (1,)), "takes BYTES"),
        (photos(()), r"takes \[-1, 1\], not \[\]"),
        (photos((1, 2)), r"not \[1, 2\]"),
        (photos((0,)), "batch-size must be >= 1 for 'm'"),
        (photos((-1,)), "batch-size must be >= 1 for 'm'"),
        (photos((5,)), "batch-size must be <= 4 for 'm'"),
        (photos((1 << 62,)), "batch-size must be <= 4 for 'm'"),
        (photos((2,), elements=[b"a"]), "has 1 elements, its shape asks for 2"),
        (photos((2,), raw=framed(b"a")), "ends before element 1 of 2"),
        (photos((1,), raw=b"\1\0\0"), "ends before element 0 of 1"),
        (photos((1,), raw=b"\xff\xff\xff\xffab"), "claims 4,294,967,295 bytes, 2 are left"),
        (photos((1,), raw=framed(b"a") + b"b"), "has 1 bytes after its last element"),
    ],
)
def test_photos_that_are_not_what_the_request_says_are_refused(tensor: Input, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        PHOTOS.images([tensor])


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (pixels((1, 2, 2, 4)), r"takes \[-1, 2, 2, 3\], not \[1, 2, 2, 4\]"),
        (pixels((5, 2, 2, 3)), "batch-size must be <= 4"),
        (pixels(raw=bytes(11)), "has 11 bytes, its shape asks for 12"),
        (pixels(elements=[0] * 13), "has 13 bytes, its shape asks for 12"),
        (pixels(elements=[256] * 12), "no number from 0 to 255"),
        (pixels(elements=[-1] * 12), "no number from 0 to 255"),
        (pixels(elements=[0.5] * 12), "no number from 0 to 255"),
        (pixels(elements=["a"] * 12), "no number from 0 to 255"),
        (pixels(elements=[[0], 0]), "no number from 0 to 255"),
        (pixels(elements=[[[[[0]]]]]), "no number from 0 to 255"),
    ],
)
def test_pixels_that_are_not_what_the_request_says_are_refused(tensor: Input, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        PIXELS.images([tensor])


@pytest.mark.parametrize("inputs", [[], [photos(elements=[b"a"])] * 2])
def test_there_is_exactly_one_input(inputs: list[Input]) -> None:
    with pytest.raises(BadRequest, match="exactly one input"):
        PHOTOS.images(inputs)


def test_the_output_need_not_be_named() -> None:
    assert PHOTOS.classes([]) == 0
    assert PHOTOS.classes([Requested("probabilities")]) == 0
    assert PHOTOS.classes([Requested("probabilities", {"classification": 3})]) == 3


@pytest.mark.parametrize(
    "requested",
    [
        [Requested("logits")],
        [Requested("probabilities")] * 2,
        [Requested("probabilities", {"classification": 0})],
        [Requested("probabilities", {"classification": 6})],
        [Requested("probabilities", {"classification": "2"})],
        [Requested("probabilities", {"classification": True})],
        [Requested("probabilities", {"shared_memory_region": "r"})],
    ],
)
def test_an_output_that_there_is_not_is_refused(requested: list[Requested]) -> None:
    with pytest.raises(BadRequest):
        PHOTOS.classes(requested)


def test_probabilities_go_out_as_little_endian_floats() -> None:
    probabilities = np.array([[0.5, 0.25, 0.125, 0.125, 0]], np.float32)
    output = PHOTOS.output(probabilities, 0)
    assert (output.datatype, output.shape) == ("FP32", (1, 5))
    assert output.raw() == struct.pack("<5f", *probabilities[0])


def test_classes_go_out_as_score_index_label_best_first() -> None:
    probabilities = np.array([[0, 0.25, 0.75, 0, 0], [1, 0, 0, 0, 0]], np.float32)
    output = PHOTOS.output(probabilities, 2)
    assert (output.datatype, output.shape) == ("BYTES", (2, 2))
    expected = [b"0.750000:2:class 2", b"0.250000:1:class 1"]
    expected += [b"1.000000:0:class 0", b"0.000000:1:class 1"]
    assert output.elements == expected
    assert output.raw() == framed(*expected)


@pytest.mark.parametrize("value", [0, 9, 1.0, True, "1", None, [1]])
def test_a_parameter_is_a_whole_number_in_its_range(value: Any) -> None:
    assert whole({"n": 8}, "n", 1, 8) == 8
    with pytest.raises(BadRequest, match="'n' must be a whole number from 1 to 8"):
        whole({"n": value}, "n", 1, 8)


def test_messages_repeat_only_the_beginning_of_what_the_caller_wrote() -> None:
    assert clipped("name") == "'name'"
    assert len(clipped("x" * 10**6)) < 50
