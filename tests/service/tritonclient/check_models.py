"""The same questions over gRPC and HTTP."""

# mypy: disable-error-code="import-not-found"

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from given import CLIENTS, CROPS, LABELS, PHOTOS, PROBABILITIES, check, photos, pixels
from tritonclient.utils import InferenceServerException

GREY = b"this is no photo"


@pytest.fixture(params=CLIENTS)
def module(request: Any) -> Any:
    return CLIENTS[request.param][0]


@pytest.fixture
def client(module: Any) -> Iterator[Any]:
    url = next(url for known, url in CLIENTS.values() if known is module)
    with module.InferenceServerClient(url) as client:
        yield client


def as_json(client: Any, question: str, *arguments: Any) -> Any:
    options = {"as_json": True} if "grpc" in type(client).__module__ else {}
    return getattr(client, question)(*arguments, **options)


def test_health(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("alexnet")
    assert client.is_model_ready("alexnet_pixels", "1")
    assert not client.is_model_ready("resnet")
    assert not client.is_model_ready("alexnet", "9")


def test_the_server_describes_itself(client: Any) -> None:
    server = as_json(client, "get_server_metadata")
    assert server["name"] == "alexnet-server"
    assert {"classification", "statistics", "binary_tensor_data"} <= set(server["extensions"])


@pytest.mark.parametrize(
    ("model", "name", "datatype", "shape"),
    [
        ("alexnet", "image", "BYTES", [-1, 1]),
        ("alexnet_pixels", "pixels", "UINT8", [-1, *CROPS.shape[1:]]),
    ],
)
@pytest.mark.parametrize("version", ["", "1"])
def test_models_describe_themselves(
    client: Any, model: str, version: str, name: str, datatype: str, shape: list[int]
) -> None:
    metadata = as_json(client, "get_model_metadata", model, version)
    assert metadata["name"] == model
    assert metadata["versions"] == ["1"]
    assert metadata["platform"] == "onnxruntime_onnx"
    (image,), (output,) = metadata["inputs"], metadata["outputs"]
    assert (image["name"], image["datatype"]) == (name, datatype)
    assert [int(n) for n in image["shape"]] == shape
    assert [int(n) for n in output["shape"]] == [-1, len(LABELS)]


def test_models_have_a_configuration(client: Any) -> None:
    config = as_json(client, "get_model_config", "alexnet_pixels")
    config = config.get("config", config)
    assert config["max_batch_size"] == 32
    assert config["input"][0]["data_type"] == "TYPE_UINT8"
    assert [int(n) for n in config["input"][0]["dims"]] == list(CROPS.shape[1:])
    assert config["dynamic_batching"]["default_queue_policy"]["allow_timeout_override"] is True


@pytest.mark.parametrize("column", [False, True])
def test_photos_are_answered_as_over_the_servers_own_protocol(
    module: Any, client: Any, column: bool
) -> None:
    check(client.infer("alexnet", [photos(module, column=column)]))


def test_pixels_are_answered_like_their_photos(module: Any, client: Any) -> None:
    check(client.infer("alexnet_pixels", [pixels(module)], model_version="1"))


def test_the_id_comes_back(module: Any, client: Any) -> None:
    result = client.infer("alexnet", [photos(module, PHOTOS[:1])], request_id="seven/7")
    response = result.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "seven/7"


def test_classes_come_with_their_labels(module: Any, client: Any) -> None:
    output = module.InferRequestedOutput("probabilities", class_count=3)
    result = client.infer("alexnet", [photos(module)], outputs=[output])
    rows = result.as_numpy("probabilities")
    assert rows.shape == (len(PHOTOS), 3)
    for row, expected in zip(rows, PROBABILITIES, strict=True):
        best = np.argsort(-expected, kind="stable")[:3]
        scores, indices, labels = zip(*(t.decode().split(":", 2) for t in row), strict=True)
        assert [int(i) for i in indices] == best.tolist()
        assert list(labels) == [LABELS[i] for i in best]
        np.testing.assert_allclose([float(s) for s in scores], expected[best], atol=2e-6)


def test_statistics_count_photos_and_requests(module: Any, client: Any) -> None:
    def counts() -> tuple[int, int, int, int]:
        (model,) = as_json(client, "get_inference_statistics", "alexnet_pixels")["model_stats"]
        stats = model["inference_stats"]
        return (
            int(model["inference_count"]),
            int(model["execution_count"]),
            int(stats["success"]["count"]),
            int(stats["fail"].get("count", 0)),
        )

    check(client.infer("alexnet_pixels", [pixels(module)]))
    before = counts()
    check(client.infer("alexnet_pixels", [pixels(module)]))
    with pytest.raises(InferenceServerException):
        client.infer("alexnet_pixels", [photos(module)])
    ends = time.monotonic() + 5  # a run is counted just after it has answered
    while counts()[1] == before[1] and time.monotonic() < ends:
        time.sleep(0.01)
    inferences, executions, successes, failures = np.subtract(counts(), before)
    assert (inferences, successes, failures) == (len(PHOTOS), 1, 1)
    assert executions >= 1
    models = as_json(client, "get_inference_statistics")["model_stats"]
    assert {model["name"] for model in models} == {"alexnet", "alexnet_pixels"}


@pytest.mark.parametrize(
    ("model", "version", "images", "parameters", "statuses", "message"),
    [
        ("resnet", "", PHOTOS, {}, ("NOT_FOUND", "404"), "Request for unknown model: 'resnet'"),
        ("alexnet", "9", PHOTOS, {}, ("NOT_FOUND", "404"), "version"),
        ("alexnet_pixels", "", PHOTOS, {}, ("INVALID_ARGUMENT", "400"), "'pixels'"),
        ("alexnet", "", PHOTOS[:1] * 33, {}, ("INVALID_ARGUMENT", "400"), "must be <= 32"),
        ("alexnet", "", [PHOTOS[0], GREY], {}, ("INVALID_ARGUMENT", "415"), "photo 1: "),
        ("alexnet", "", PHOTOS, {"timeout": 1}, ("DEADLINE_EXCEEDED", "504"), "deadline"),
    ],
)
def test_errors_have_their_status_and_say_why(
    module: Any,
    client: Any,
    model: str,
    version: str,
    images: list[bytes],
    parameters: dict[str, int],
    statuses: tuple[str, str],
    message: str,
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [photos(module, images)], model_version=version, **parameters)
    assert caught.value.status() in (f"StatusCode.{statuses[0]}", statuses[1])
    assert message in caught.value.message()


def test_an_output_that_there_is_not_is_refused(module: Any, client: Any) -> None:
    output = module.InferRequestedOutput("logits")
    with pytest.raises(InferenceServerException, match="'probabilities'; got 'logits'"):
        client.infer("alexnet", [photos(module)], outputs=[output])


@pytest.mark.parametrize("priority", [1, 2, 9])
def test_a_timeout_and_a_priority_that_can_be_kept_are(
    module: Any, client: Any, priority: int
) -> None:
    check(client.infer("alexnet", [photos(module)], timeout=60_000_000, priority=priority))


def test_parameters_of_the_callers_own_change_nothing(module: Any, client: Any) -> None:
    check(client.infer("alexnet", [photos(module)], parameters={"of": "mine", "number": 7}))


def test_metadata_of_an_unknown_model_is_not_found(client: Any) -> None:
    for question in ("get_model_metadata", "get_model_config", "get_inference_statistics"):
        with pytest.raises(InferenceServerException, match="Request for unknown model"):
            getattr(client, question)("resnet")


def test_the_repository_is_closed_unless_the_operator_opens_it(client: Any) -> None:
    for question in ("load_model", "unload_model"):
        with pytest.raises(InferenceServerException, match="repository control is off"):
            getattr(client, question)("alexnet")
