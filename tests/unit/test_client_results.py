"""The client's dataclasses match the messages on the wire."""

import pickle
from dataclasses import fields
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from alexnet_client import classifier_pb2 as pb
from alexnet_client import errors, results
from alexnet_client.errors import ClassifyError

KINDS = {
    results.Prediction: pb.Prediction,
    results.ModelVersion: pb.ModelVersion,
    results.Image: pb.Image,
    results.Timing: pb.Timing,
    results.Model: pb.Model,
    results.Classification: pb.ClassifyResponse,
}


@pytest.mark.parametrize(("kind", "message"), KINDS.items(), ids=lambda value: value.__name__)
def test_a_value_has_the_fields_of_its_message(kind: Any, message: Any) -> None:
    names = {field.name for field in fields(kind)} - {"attempts"}
    assert names == {field.name for field in message.DESCRIPTOR.fields}


def test_a_response_becomes_dataclasses() -> None:
    response = pb.ClassifyResponse(
        predictions=[pb.Prediction(index=7, synset="n01", label="lynx", probability=0.5)],
        model=pb.ModelVersion(name="alexnet", version="2", build="b"),
        image=pb.Image(
            format="PNG",
            width=3,
            height=4,
            mode="L",
            orientation=6,
            icc="Display P3 → sRGB",
            frames=2,
            warnings=["odd"],
        ),
        timing=pb.Timing(
            decode_ms=1,
            queue_ms=2,
            infer_ms=3,
            total_ms=10,
            batch_size=8,
            upload_ms=4,
            decode_queue_ms=0.5,
            batch_queue_ms=1.5,
        ),
        request_id="mine",
    )
    answer = results.classification(response, attempts=2)
    assert answer == results.Classification(
        predictions=(results.Prediction(7, "n01", "lynx", 0.5),),
        model=results.ModelVersion("alexnet", "2", "b"),
        image=results.Image("PNG", 3, 4, "L", 6, "Display P3 → sRGB", 2, ("odd",)),
        timing=results.Timing(1, 2, 3, 10, 8, 4, 0.5, 1.5),
        request_id="mine",
        attempts=2,
    )
    assert answer.top1.label == "lynx"


def call_failed(code: grpc.StatusCode, **trailers: str | bytes) -> grpc.aio.AioRpcError:
    named = {name.replace("_", "-"): value for name, value in trailers.items()}
    none = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, none, grpc.aio.Metadata(*named.items()), details="no")


def test_an_error_carries_the_servers_reason_and_advice() -> None:
    status = Status(code=8, message="no")
    retry = RetryInfo()
    retry.retry_delay.FromMilliseconds(250)
    status.details.add().Pack(retry)
    failed = call_failed(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        alexnet_reason="overloaded",
        grpc_status_details_bin=status.SerializeToString(),
    )
    error = errors.from_rpc_error(failed)
    assert (error.code, error.message) == ("RESOURCE_EXHAUSTED", "no")
    assert (error.reason, error.retry_after_s) == ("overloaded", 0.25)


@pytest.mark.parametrize(
    "details",
    [b"\xff\xff", Status(code=8).SerializeToString(), b""],
    ids=["damaged", "no advice", "empty"],
)
def test_details_without_advice_are_none(details: bytes) -> None:
    failed = call_failed(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc_status_details_bin=details)
    assert errors.from_rpc_error(failed).retry_after_s is None


def test_a_photos_failure_on_a_stream_is_the_same_error() -> None:
    error = errors.from_failure(
        pb.Failure(code=8, reason="overloaded", message="no", retry_after_ms=250)
    )
    assert (error.code, error.message) == ("RESOURCE_EXHAUSTED", "no")
    assert (error.reason, error.retry_after_s) == ("overloaded", 0.25)
    assert errors.from_failure(pb.Failure(code=3)).retry_after_s is None
    assert errors.from_failure(pb.Failure(code=99)).code == "UNKNOWN"


def test_an_error_can_be_pickled() -> None:
    error = ClassifyError("NOT_FOUND", "no version 9", "not_found", 1.5, attempts=3)
    copied = pickle.loads(pickle.dumps(error))
    assert vars(copied) == vars(error)
    assert str(copied) == "NOT_FOUND: no version 9"
