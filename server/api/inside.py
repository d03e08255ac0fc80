"""What the page `/model` shows: the network that is served, and how it is doing."""

import asyncio
import base64
import json
from dataclasses import asdict
from weakref import WeakKeyDictionary

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from alexnet.png import to_png
from server.api.messages import Fields, version
from server.api.requests import named
from server.engines.anatomy import dissect
from server.models.control import Control
from server.scheduler.pipeline import Pipeline
from server.service import Service
from server.telemetry.counts import Counts


class InsideHttp:
    def __init__(self, service: Service, control: Control):
        self._service, self._control = service, control
        # A version is dissected once, however often it is asked for.
        self._known: WeakKeyDictionary[Pipeline, asyncio.Future[bytes]] = WeakKeyDictionary()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/models/{name}/inside", self.get_inside),
            web.get("/v1/models/{name}/live", self.get_live),
        ]

    async def get_inside(self, request: web.Request) -> web.Response:
        """The network that is served: its layers and what they cost here, its first filters, its
        artifacts, its card."""
        pipeline = named(request, self._service)
        if pipeline not in self._known:
            task = asyncio.ensure_future(asyncio.to_thread(_inside, pipeline))
            self._known[pipeline] = task
        try:
            body = await asyncio.shield(self._known[pipeline])
        except Exception:
            self._known.pop(pipeline, None)
            raise
        return web.Response(body=body, content_type="application/json")

    async def get_live(self, request: web.Request) -> web.Response:
        """Counts since the start, to be drawn: photos, runs of the engine by their photos, requests
        by the time they took, and what waits now."""
        pipeline = named(request, self._service)
        counts = (await self._control.counts())[pipeline.model.name, pipeline.number]
        waiting = self._service.gate.places.count
        return web.json_response(_live(counts) | {"in_flight": waiting})


def _inside(pipeline: Pipeline) -> bytes:
    """As JSON; takes half a second."""
    bundle, anatomy = pipeline.model.bundle, dissect(pipeline.model)
    card = bundle.files[bundle.manifest.card.file].decode(errors="replace")
    filters = None if anatomy.filters is None else _picture(anatomy.filters)
    told = {
        "model": version(pipeline),
        "layers": [
            {**asdict(layer), "zeros": round(layer.zeros, 4), "ms": _ms(layer.ms)}
            for layer in anatomy.layers
        ],
        "rest_ms": _ms(anatomy.rest_ms),
        "filters": filters,
        "artifacts": [
            {
                "file": artifact.file,
                "precision": artifact.precision,
                "bytes": len(bundle.files[artifact.file]),
                "served": artifact == pipeline.model.artifact,
                "agreement": artifact.agreement,
                "accuracy": artifact.accuracy and asdict(artifact.accuracy),
            }
            for artifact in bundle.manifest.artifacts
        ],
        "card": card,
    }
    return json.dumps(told).encode()


def _ms(measured: float | None) -> float | None:
    return None if measured is None else round(measured, 3)


def _picture(windows: NDArray[np.uint8]) -> str:
    """A PNG as a data: address, with a line of grey between the windows."""
    rows, columns, height, width, _ = windows.shape
    sheet = np.full((rows * (height + 1), columns * (width + 1), 3), 128, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + 1), column * (width + 1)
            sheet[top : top + height, left : left + width] = windows[row, column]
    return "data:image/png;base64," + base64.b64encode(to_png(sheet)).decode()


def _live(counts: Counts) -> Fields:
    return {
        "photos": counts.photos,
        "runs": {str(size): runs.count for size, runs in sorted(counts.batches.items())},
        "answered": counts.success.count,
        "failed": counts.fail.count,
        "latencies": [
            {"up_to_ms": 2 ** (step / 4), "requests": requests}
            for step, requests in sorted(counts.latencies.items())
        ],
    }
