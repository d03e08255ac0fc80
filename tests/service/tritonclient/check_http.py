"""What only HTTP has: JSON or binary tensors, compressed bodies, a pool of connections."""

# mypy: disable-error-code="import-not-found"

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from given import CROPS, HTTP, LABELS, PHOTOS, check, photos, pixels
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client() -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(HTTP, concurrency=4) as client:
        yield client


@pytest.mark.parametrize("binary", [False, True])
def test_an_output_is_json_or_binary(client: Any, binary: bool) -> None:
    output = triton.InferRequestedOutput("probabilities", binary_data=binary)
    result = client.infer("alexnet", [photos(triton)], outputs=[output])
    assert ("data" in result.get_output("probabilities")) is not binary
    check(result)


@pytest.mark.parametrize("binary", [False, True])
def test_classes_are_json_or_binary(client: Any, binary: bool) -> None:
    output = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=1)
    result = client.infer("alexnet", [photos(triton, PHOTOS[:1])], outputs=[output])
    ((text,),) = result.as_numpy("probabilities")
    assert (text.decode() if binary else text).partition(":")[2].partition(":")[2] in LABELS


def test_pixels_may_come_as_json(client: Any) -> None:
    tensor = triton.InferInput("pixels", list(CROPS.shape), "UINT8")
    tensor.set_data_from_numpy(CROPS, binary_data=False)
    check(client.infer("alexnet_pixels", [tensor]))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_bodies_may_be_compressed(client: Any, algorithm: str) -> None:
    options = {"request_compression_algorithm": algorithm}
    check(client.infer("alexnet", [photos(triton)], **options))
    check(client.infer("alexnet_pixels", [pixels(triton)], **options))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_long_answers_may_be_compressed(client: Any, algorithm: str) -> None:
    image, output = photos(triton, PHOTOS * 3), "probabilities"
    json = triton.InferRequestedOutput(output, binary_data=False)
    options = {"outputs": [json], "response_compression_algorithm": algorithm}
    found = client.infer("alexnet", [image], **options).as_numpy(output)
    np.testing.assert_array_equal(found, client.infer("alexnet", [image]).as_numpy(output))


def test_requests_may_be_sent_at_once(client: Any) -> None:
    asked = [client.async_infer("alexnet", [photos(triton, [image])]) for image in PHOTOS]
    for i, answer in enumerate(asked):
        check(answer.get_result(), i, 1)


def test_what_is_not_here_is_an_error_that_can_be_read(client: Any) -> None:
    """The client's exceptions are made of {"error": "text"}."""
    for ask in (client.get_log_settings, client.get_trace_settings):
        with pytest.raises(InferenceServerException) as caught:
            ask()
        assert "there is nothing at /v2/" in str(caught.value)
    with pytest.raises(InferenceServerException) as caught:
        client.get_model_metadata("unknown")
    assert "unknown" in str(caught.value)


def test_an_empty_tensor_is_refused(client: Any) -> None:
    tensor = triton.InferInput("image", [0], "BYTES").set_data_from_numpy(np.array([], object))
    with pytest.raises(Exception, match="batch-size must be >= 1 for 'alexnet'"):
        client.infer("alexnet", [tensor])
