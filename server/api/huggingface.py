"""Hugging Face's task image-classification, as `huggingface_hub.InferenceClient` asks for it.

https://huggingface.co/docs/inference-providers/tasks/image-classification
"""

from aiohttp import web

from server.api import base64, bodies, requests
from server.api.messages import class_fields, ranking
from server.api.oip import json
from server.api.options import Options
from server.errors import BadRequest
from server.service import Service

SCORES = ("softmax",)


class HuggingFace:
    def __init__(self, service: Service):
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/image-classification", self.classify)]

    async def classify(self, request: web.Request) -> web.Response:
        """Hugging Face's task: a label and a score for each of the most probable classes.

        The body is a photo, or JSON that has it in base64 as `inputs`, with `parameters`: `top_k`,
        and `function_to_apply`, which is softmax.
        """
        with requests.admit(request, self._service, "rest", "") as admitted:
            photo = await admitted.receive(bodies.read(request, admitted))
            top_k = None
            if request.content_type == "application/json":
                photo, top_k = await bodies.aside(admitted, _read, photo)
            asked = Options(top_k=top_k).checked(admitted.version.model)
            answer = await self._service.classify(admitted, photo)
            return web.json_response(
                [
                    {"label": class_fields(answer, r.index)["label"], "score": r.probability}
                    for r in ranking(answer, asked)
                ]
            )


def _read(body: bytes) -> tuple[bytes, int | None]:
    """Raises BadRequest."""
    asked = json.parse(body)
    parameters = asked.get("parameters") or {}
    inputs = asked.get("inputs")
    if not isinstance(inputs, str) or not isinstance(parameters, dict):
        raise BadRequest("inputs must be a photo in base64, and parameters an object")
    top_k, scores = parameters.get("top_k"), parameters.get("function_to_apply") or SCORES[0]
    if top_k is not None and type(top_k) is not int:
        raise BadRequest("top_k must be a whole number")
    if scores not in SCORES:
        raise BadRequest(f"function_to_apply must be {SCORES[0]}, or left out")
    try:
        return base64.decoded(inputs), top_k
    except ValueError as error:
        raise BadRequest(f"inputs is no base64: {error}") from None
