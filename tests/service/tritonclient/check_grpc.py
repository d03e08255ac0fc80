"""What only gRPC has: streams, typed contents, callbacks, deadlines, descriptors."""

# mypy: disable-error-code="import-not-found"

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from given import CROPS, FOLDER, GRPC, PHOTOS, PROBABILITIES, check, photos
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

Answer = tuple[Any, InferenceServerException | None]


@pytest.fixture
def client() -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(GRPC) as client:
        yield client


@pytest.fixture
def stub() -> Iterator[Any]:
    with grpc.insecure_channel(GRPC) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(model: str, name: str, datatype: str, shape: Any, **contents: Any) -> Any:
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape
    )
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return service_pb2.ModelInferRequest(model_name=model, inputs=[tensor])


def test_photos_come_as_typed_contents(stub: Any) -> None:
    asked = request("alexnet", "image", "BYTES", [len(PHOTOS)], bytes_contents=PHOTOS)
    check(triton.InferResult(stub.ModelInfer(asked)))


def test_pixels_come_as_typed_contents(stub: Any) -> None:
    values = CROPS.ravel().tolist()
    asked = request("alexnet_pixels", "pixels", "UINT8", CROPS.shape, uint_contents=values)
    check(triton.InferResult(stub.ModelInfer(asked)))


def test_raw_and_typed_contents_are_not_mixed(stub: Any) -> None:
    asked = request("alexnet", "image", "BYTES", [1], bytes_contents=PHOTOS[:1])
    asked.raw_input_contents.append(b"")
    with pytest.raises(grpc.RpcError, match="contents beside its raw contents"):
        stub.ModelInfer(asked)


def test_a_stream_is_answered_in_order_and_outlives_a_bad_photo(client: Any) -> None:
    answers: queue.Queue[Answer] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    asked = [PHOTOS[:1], [b"no photo"], PHOTOS[1:], PHOTOS]
    for i, images in enumerate(asked):
        client.async_stream_infer("alexnet", [photos(triton, images)], request_id=str(i))
    got = [answers.get(timeout=30) for _ in asked]
    client.stop_stream()
    assert [result and result.get_response().id for result, _ in got] == ["0", None, "2", "3"]
    check(got[0][0], 0, 1)
    assert "not an image" in str(got[1][1])
    check(got[2][0], 1, len(PHOTOS) - 1)
    check(got[3][0])


def test_every_answer_of_a_stream_says_that_it_is_the_last(stub: Any) -> None:
    """Loops that also serve decoupled models wait for it."""
    good = request("alexnet", "image", "BYTES", [1], bytes_contents=PHOTOS[:1])
    bad = request("alexnet", "image", "BYTES", [1], bytes_contents=[b"no photo"])
    for asked, answer in zip((good, bad), stub.ModelStreamInfer(iter([good, bad])), strict=True):
        assert answer.infer_response.parameters["triton_final_response"].bool_param
        assert answer.infer_response.model_name == "alexnet"
        assert bool(answer.error_message) is (asked is bad)


def test_requests_may_be_answered_by_a_callback(client: Any) -> None:
    answers: queue.Queue[Answer] = queue.Queue()
    for image in PHOTOS:
        client.async_infer(
            "alexnet", [photos(triton, [image])], lambda result, error: answers.put((result, error))
        )
    got = [answers.get(timeout=30) for _ in PHOTOS]
    assert [error for _, error in got] == [None] * len(PHOTOS)
    found = np.concatenate([result.as_numpy("probabilities") for result, _ in got])
    best = np.sort(found.max(axis=1))
    np.testing.assert_allclose(best, np.sort(PROBABILITIES.max(axis=1)), atol=2e-6)


def test_the_deadline_of_a_call_is_kept(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("alexnet", [photos(triton)], client_timeout=0.0001)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_calls_may_be_compressed(client: Any, algorithm: str) -> None:
    check(client.infer("alexnet", [photos(triton)], compression_algorithm=algorithm))


def test_what_the_server_does_not_have_is_unimplemented(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.get_system_shared_memory_status()
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def names(parts: Any) -> dict[str, Any]:
    return {part.name: part for part in parts}


def test_our_descriptors_are_a_part_of_theirs() -> None:
    ours = descriptor_pb2.FileDescriptorProto.FromString((FOLDER / "oip.desc").read_bytes())
    theirs: dict[str, Any] = {}
    for module in (service_pb2, model_config_pb2):
        whole = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(whole)
        theirs |= names(whole.message_type) | names(whole.enum_type) | names(whole.service)

    def compare(mine: Any, other: Any) -> None:
        for name, field in names(mine.field).items():
            found = names(other.field)[name]
            assert (field.number, field.type, field.label, field.type_name) == (
                found.number, found.type, found.label, found.type_name,
            ), f"{mine.name}.{name}"  # fmt: skip
            assert field.HasField("oneof_index") == found.HasField("oneof_index")
        for name, nested in names(mine.nested_type).items():
            compare(nested, names(other.nested_type)[name])
        for name, enum in names(mine.enum_type).items():
            compare_values(enum, names(other.enum_type)[name])

    def compare_values(mine: Any, other: Any) -> None:
        found = {value.name: value.number for value in other.value}
        assert {value.name: value.number for value in mine.value}.items() <= found.items()

    for message in ours.message_type:
        compare(message, theirs[message.name])
    for enum in ours.enum_type:
        compare_values(enum, theirs[enum.name])
    (service,) = ours.service
    methods = names(theirs[service.name].method)
    for method in service.method:
        methods[method.name].ClearField("options")
        assert methods[method.name] == method
    assert (ours.package, len(service.method)) == ("inference", 12)
