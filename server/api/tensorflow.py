"""TensorFlow Serving's REST interface, which is KServe's first protocol, too: `:predict`.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from typing import Any

from aiohttp import web

from server.api import base64, bodies, requests
from server.api.oip import json
from server.api.oip.models import OipModels
from server.api.oip.tensors import Input, clipped
from server.errors import BadRequest

INPUTS = ("image", "image_bytes")
"""Names that a photo may have in an instance; it needs none."""


class TensorFlow:
    def __init__(self, models: OipModels):
        self._models = models

    def routes(self) -> list[web.RouteDef]:
        model = "/v1/models/{name}"
        return [
            web.post(f"{model}:predict", self.predict),
            web.post(f"{model}/versions/{{version}}:predict", self.predict),
        ]

    async def predict(self, request: web.Request) -> web.Response:
        """TensorFlow Serving's and KServe's: probabilities of all classes for each photo.

        A photo is an instance: `{"b64": "..."}`, by itself or as `image` or `image_bytes`.
        """
        name, version = request.match_info["name"], request.match_info.get("version", "")
        self._models.check(name)
        with requests.admit(request, self._models.service, "rest", version, name) as admitted:
            body = await admitted.receive(bodies.read(request, admitted))
            photos = await bodies.aside(admitted, _read, body)
            tensor = Input(INPUTS[0], "BYTES", (len(photos),), elements=photos)
            output = await self._models.infer([tensor], [], admitted)
        assert not isinstance(output.elements, list)
        return web.json_response({"predictions": output.elements.tolist()})


def _read(body: bytes) -> list[bytes]:
    """The photos. Raises BadRequest."""
    instances = json.parse(body).get("instances")
    if not isinstance(instances, list):
        raise BadRequest("instances must be a list of photos")
    return [_photo(instance, f"instances[{i}]") for i, instance in enumerate(instances)]


def _photo(instance: Any, where: str) -> bytes:
    for name in INPUTS:
        if isinstance(instance, dict) and name in instance:
            instance, where = instance[name], f"{where}.{name}"
    text = instance.get("b64") if isinstance(instance, dict) else None
    if not isinstance(text, str):
        got = clipped(str(instance)[:50])
        raise BadRequest(f'{where} must be {{"b64": a photo in base64}}, not {got}')
    try:
        return base64.decoded(text)
    except ValueError as error:
        raise BadRequest(f"{where}.b64 is no base64: {error}") from None
