"""`/v1`: uploads in, JSON out. It converts and calls the service; nothing else."""

import asyncio
import json
from contextlib import AbstractContextManager

from aiohttp import hdrs, web

from alexnet.occlusion import overlay
from alexnet.png import to_png
from server.api import bodies, forms, requests
from server.api.answers import fields_of, look
from server.api.http import REQUEST_ID
from server.api.messages import (
    Fields,
    as_json,
    classification,
    described_class,
    failure,
    server_timing,
    version,
)
from server.api.options import Asked
from server.api.requests import HEATMAP, named
from server.errors import BadRequest, NotFound, ServeError, UnsupportedEncoding
from server.scheduler.job import Answer, Request
from server.service import Service


class ClassifyHttp:
    def __init__(self, service: Service):
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/classify", self.classify),
            web.put("/v1/classify", self.classify),
            web.get("/v1/models", self.list_models),
            # Without a colon: TensorFlow Serving's `:classify`, which is not here, is no name.
            web.get("/v1/models/{name:[^:/]+}", self.get_model),
            web.get("/v1/models/{name}/costmodel", self.get_costs),
            web.get("/v1/models/{name}/classes/{synset}", self.get_class),
        ]

    async def classify(self, request: web.Request) -> web.Response:
        """Classifies a photo, or each of those in a form.

        The classes come most probable first. Several files are answered with `files`, each with the
        status that it would have alone. `return=crop` answers with what the network saw, as a PNG;
        `return=heatmap` with the same, dark where the evidence for the best class is not.
        """
        if request.content_type == "multipart/form-data":
            return await self._classify_form(request)
        with self._admit(request) as admitted:
            options, picture = requests.options(request), requests.picture(request)
            asked = options.checked(admitted.version.model)
            image = await admitted.receive(bodies.read(request, admitted))
            return await self._reply(request, admitted, image, asked, picture)

    async def list_models(self, request: web.Request) -> web.Response:
        """Every version that is served."""
        return web.json_response({"models": [*map(version, self._service.repository.served)]})

    async def get_model(self, request: web.Request) -> web.Response:
        """What is served, how well it was measured, and whether it is ready."""
        model = version(named(request, self._service))
        return web.json_response({**model, "ready": self._service.ready})

    async def get_costs(self, request: web.Request) -> web.Response:
        """What the server expects a batch and a decode to take, and how reality compares."""
        pipeline = named(request, self._service)
        drift = {stage: round(ratio(), 3) for stage, ratio in pipeline.drift.items()}
        costs = {**json.loads(pipeline.costs.to_json()), "drift": drift}
        return web.json_response({"version": pipeline.number, **costs})

    async def get_class(self, request: web.Request) -> web.Response:
        """A class by its synset: its names, and what it is a kind of in WordNet."""
        labels, synset = (
            named(request, self._service).model.bundle.labels,
            request.match_info["synset"],
        )
        index = labels.index.get(synset)
        if index is None:
            raise NotFound(
                f"the model has no class {synset[:50]!r}; a class has a synset as its id"
            )
        return web.json_response(described_class(index, labels[index]))

    def _admit(self, request: web.Request) -> AbstractContextManager[Request]:
        version = request.query.get("version", "")
        return requests.admit(request, self._service, "rest", version)

    async def _classify_form(self, request: web.Request) -> web.Response:
        service = self._service
        with self._admit(request) as admitted:
            options, picture = requests.options(request), requests.picture(request)
            asked = options.checked(admitted.version.model)
            if bodies.encoding_of(request) != "identity":
                raise UnsupportedEncoding("a form takes no Content-Encoding: send it as it is")
            body = await admitted.receive(bodies.read(request, admitted))
            files = forms.photos(body, request.headers[hdrs.CONTENT_TYPE])
            del body
            if len(files) == 1:
                return await self._reply(request, admitted, files[0].image, asked, picture)
            if picture or asked.is_costly:
                raise BadRequest(
                    f"return, views and explain are for one photo, and the form has {len(files)}"
                )
            answers = await service.classify_many(admitted, [file.image for file in files])
            rows = [
                {"file": file.name, **_row(answer, asked, request[REQUEST_ID])}
                for file, answer in zip(files, answers, strict=True)
            ]
            return web.json_response({"files": rows, "request_id": request[REQUEST_ID]})

    async def _reply(
        self, request: web.Request, admitted: Request, image: bytes, asked: Asked, picture: str
    ) -> web.Response:
        answer, explained = await look(self._service, admitted, image, asked, bool(picture))
        assert answer.photo is not None
        fields = fields_of(answer, explained, asked, request[REQUEST_ID])
        headers = {"Server-Timing": server_timing(fields)}
        if not picture:
            return web.json_response(as_json(fields), headers=headers)
        shown = answer.photo.crop
        if picture == HEATMAP and explained:
            shown = overlay(shown, explained.shares)
        png = await asyncio.to_thread(to_png, shown)
        return web.Response(body=png, content_type="image/png", headers=headers)


def _row(answer: Answer | ServeError, asked: Asked, request_id: str) -> Fields:
    if isinstance(answer, ServeError):
        return {"status": answer.http, **failure(answer, request_id)}
    return {"status": 200, **as_json(classification(answer, asked, request_id))}
