"""`/v1`: uploads in, JSON out. It converts and calls the service; nothing else."""

import json
from contextlib import AbstractContextManager

from aiohttp import web

from server.api import requests
from server.api.http import REQUEST_ID, errors, refusal
from server.api.messages import Fields, as_json, classification, failure, server_timing, version
from server.errors import NotFound, ServeError
from server.scheduler.job import Answer, Request
from server.scheduler.pipeline import Pipeline
from server.service import Service, checked_k

OPTIONS = ("top_k", "version")


class ClassifyHttp:
    def __init__(self, service: Service):
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/classify", self.classify, expect_handler=self.expect),
            web.put("/v1/classify", self.classify, expect_handler=self.expect),
            web.get("/v1/models", self.list_models),
            web.get("/v1/models/{name}", self.get_model),
            web.get("/v1/models/{name}/costmodel", self.get_costs),
        ]

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answers `Expect: 100-continue`: what is too large is refused before it is sent."""
        if (request.content_length or 0) > self._service.limits.max_request_bytes:
            return await errors(request, self.classify)
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    async def classify(self, request: web.Request) -> web.Response:
        """Classifies a photo, or each of those in a form.

        The classes come most probable first. Several files are answered with `files`, each with the
        status that it would have alone.
        """
        service = self._service
        if request.content_type == "multipart/form-data":
            return await self._classify_form(request)
        with self._admit(request) as admitted:
            top_k = requests.option(request, "top_k", OPTIONS)
            image = await admitted.receive(requests.read(request, service))
            k = checked_k(top_k, admitted.version.model.classes)
            answer = await service.classify(admitted, image)
            return _reply(request, answer, k)

    async def list_models(self, request: web.Request) -> web.Response:
        """Every version that is served."""
        return web.json_response({"models": [*map(version, self._service.repository.served)]})

    async def get_model(self, request: web.Request) -> web.Response:
        """What is served, and how well it was measured."""
        return web.json_response(version(self._named(request)))

    async def get_costs(self, request: web.Request) -> web.Response:
        """What the server expects a batch and a decode to take, and how reality compares."""
        pipeline = self._named(request)
        drift = {stage: round(ratio(), 3) for stage, ratio in pipeline.drift.items()}
        costs = {**json.loads(pipeline.costs.to_json()), "drift": drift}
        return web.json_response({"version": pipeline.number, **costs})

    def _named(self, request: web.Request) -> Pipeline:
        repository, name = self._service.repository, request.match_info["name"]
        if name != repository.name:
            raise NotFound(f"there is no such model; {repository.name!r} is served")
        return repository.pick(request.query.get("version", ""))

    def _admit(self, request: web.Request) -> AbstractContextManager[Request]:
        version = request.query.get("version", "")
        return requests.admit(request, self._service, "rest", version)

    async def _classify_form(self, request: web.Request) -> web.Response:
        service = self._service
        with self._admit(request) as admitted:
            top_k = requests.option(request, "top_k", OPTIONS)
            form = requests.read_form(request, service.limits.max_request_bytes)
            files = await admitted.receive(form)
            k = checked_k(top_k, admitted.version.model.classes)
            answers = await service.classify_many(admitted, [file.image for file in files])
            if len(answers) == 1:
                return _reply(request, answers[0], k)
            rows = [
                {"file": file.name, **_row(answer, k, request[REQUEST_ID])}
                for file, answer in zip(files, answers, strict=True)
            ]
            return web.json_response({"files": rows, "request_id": request[REQUEST_ID]})


def _row(answer: Answer | ServeError, k: int, request_id: str) -> Fields:
    if isinstance(answer, ServeError):
        return {"status": answer.http, **failure(answer, request_id)}
    return {"status": 200, **as_json(classification(answer, k, request_id))}


def _reply(request: web.Request, answer: Answer | ServeError, k: int) -> web.Response:
    if isinstance(answer, ServeError):
        return refusal(request, answer)
    fields = classification(answer, k, request[REQUEST_ID])
    return web.json_response(as_json(fields), headers={"Server-Timing": server_timing(fields)})
