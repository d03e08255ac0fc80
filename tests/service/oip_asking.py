"""A question in the Open Inference Protocol to a fake server, over either face, made by hand."""

import json
import struct
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc
import numpy as np

from protos import oip_pb2 as pb
from protos import oip_pb2_grpc as pb_grpc
from tests.fakes import CLASSES, Fake


@dataclass
class Refused(Exception):
    status: str
    """Of HTTP, or the name of gRPC's code."""
    message: str
    retry: bool
    """Whether the answer says when to try again."""


def framed(images: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(image)) + image for image in images)


def request(images: list[bytes], model: str = "tiny", **parameters: int) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="image", datatype="BYTES", shape=[len(images)]
    )
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[tensor],
        raw_input_contents=[framed(images)],
        parameters={name: pb.InferParameter(int64_param=n) for name, n in parameters.items()},
    )


def body(images: list[bytes], **parameters: Any) -> tuple[bytes, dict[str, str]]:
    """With the header that binary tensors need."""
    raw = framed(images)
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [len(images)],
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head))}


def classes(response: pb.ModelInferResponse) -> list[int]:
    """The most probable one for each photo."""
    rows = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(-1, CLASSES)
    return [int(i) for i in rows.argmax(axis=1)]


async def ask(face: str, fake: Fake, images: list[bytes], **parameters: int) -> list[int]:
    """The class of each photo; raises Refused."""
    if face == "rest":
        return await _over_rest(fake, images, **parameters)
    async with grpc.aio.insecure_channel(fake.target) as channel:
        try:
            stub = pb_grpc.GRPCInferenceServiceStub(channel)
            return classes(await stub.ModelInfer(request(images, "tiny", **parameters)))
        except grpc.aio.AioRpcError as error:
            retry = "grpc-retry-pushback-ms" in dict(error.trailing_metadata() or ())
            raise Refused(error.code().name, error.details() or "", retry) from None


async def _over_rest(fake: Fake, images: list[bytes], **parameters: int) -> list[int]:
    data, headers = body(images, **parameters)
    async with (
        aiohttp.ClientSession(fake.url) as session,
        session.post("/v2/models/tiny/infer", data=data, headers=headers) as response,
    ):
        answer = await response.json()
        if response.status != 200:
            assert answer.keys() == {"error"}
            raise Refused(str(response.status), answer["error"], "Retry-After" in response.headers)
    (output,) = answer["outputs"]
    rows = np.reshape(output["data"], output["shape"])
    return [int(i) for i in rows.argmax(axis=1)]
