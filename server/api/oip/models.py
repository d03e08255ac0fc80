"""The two models that the Open Inference Protocol sees in each version, and how they are asked.

`alexnet` takes photos, `alexnet_pixels` takes crops that are ready for the network.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from server.api.oip.tensors import Input, Output, Parameters, Requested, Signature, clipped, whole
from server.errors import NotFound, NotReady
from server.scheduler.job import Answer, Request, Version
from server.scheduler.pipeline import Pipeline, pixels_name
from server.service import Service

MAX_NUMBER = (1 << 64) - 1


class OipModels:
    """Methods that take a name raise NotFound for one, or for a version, that is not served."""

    def __init__(self, service: Service):
        self.service = service

    @property
    def names(self) -> tuple[str, str]:
        name = self.service.repository.name
        return name, pixels_name(name)

    def check(self, name: str) -> None:
        if name not in self.names:
            raise NotFound(f"Request for unknown model: {clipped(name)} is not found")

    def pick(self, name: str, version: str) -> Pipeline:
        self.check(name)
        return self.service.pick(version)

    def ready(self, name: str, version: str) -> bool:
        try:
            self.pick(name, version)
        except NotReady:
            return False
        return self.service.ready

    def schedule(self, parameters: Parameters, request: Request) -> None:
        """Takes the timeout and the priority asked for. Zero is as good as none, and a level that
        there is not is the default, as in Triton. Raises BadRequest."""
        timeout_s = level = None
        if parameters.get("priority"):
            level = whole(parameters, "priority", 1, MAX_NUMBER)
            if level > self.service.limits.priority_levels:
                level = None
        if parameters.get("timeout"):
            timeout_s = whole(parameters, "timeout", 1, MAX_NUMBER) / 1e6
            timeout_s -= request.received - request.start  # it counts from the admission
        self.service.amend(request, timeout_s, level)

    async def infer(
        self, inputs: Sequence[Input], requested: Sequence[Requested], request: Request
    ) -> Output:
        """The first photo that fails, fails the request. Raises a ServeError."""
        signature = signature_of(request.version, request.model)
        classes = signature.classes(requested)
        photos = signature.images(inputs)
        answers = await self.service.classify_many(request, photos, all_or_none=True)
        rows = [answer.probabilities for answer in answers if isinstance(answer, Answer)]
        output = signature.output(np.stack(rows), classes)
        return replace(output, cached=all(timing.cached for timing in request.timings))


def signature_of(version: Version, name: str) -> Signature:
    """What one of the two models of a version takes and gives."""
    bundle, most = version.model.bundle, version.max_batch_size
    if name == version.model.name:
        return Signature(name, "image", "BYTES", (1,), bundle.labels, most)
    crop = bundle.manifest.preprocess.crop
    return Signature(name, "pixels", "UINT8", (crop, crop, 3), bundle.labels, most)
