"""The two models that the Open Inference Protocol sees in each version, and how they are asked.

`alexnet` takes photos, `alexnet_pixels` takes crops that are ready for the network.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from server.api.oip.tensors import (
    Image,
    Input,
    Output,
    Parameters,
    Requested,
    Signature,
    clipped,
    whole,
)
from server.errors import BadImage, NotFound, NotReady, TooLarge, UnsupportedImage
from server.models.version import Outcome, Served, pixels_name
from server.scheduler.request import Admission
from server.service import DataPlane

MAX_NUMBER = (1 << 64) - 1


class Models:
    """Methods that take a name raise NotFound for one, or for a version, that is not served."""

    def __init__(self, plane: DataPlane):
        self.plane = plane

    @property
    def names(self) -> tuple[str, str]:
        name = self.plane.repository.name
        return name, pixels_name(name)

    def check(self, name: str) -> None:
        if name not in self.names:
            raise NotFound(f"Request for unknown model: {clipped(name)} is not found")

    def pick(self, name: str, version: str) -> Served:
        self.check(name)
        return self.plane.repository.pick(version)

    def ready(self, name: str, version: str) -> bool:
        try:
            self.pick(name, version)
        except NotReady:
            return False
        return self.plane.ready

    def schedule(
        self, parameters: Parameters, timeout_s: float | None, admission: Admission
    ) -> None:
        """Takes the shorter of the timeout asked for and the transport's, and the priority asked
        for. Zero is as good as none, and a level that there is not is the default, as in Triton.

        Raises BadRequest.
        """
        if parameters.get("priority"):
            level = whole(parameters, "priority", 1, MAX_NUMBER)
            if level <= self.plane.limits.priority_levels:
                admission.level = level
        if parameters.get("timeout"):
            own_s = whole(parameters, "timeout", 1, MAX_NUMBER) / 1e6
            own_s = min(own_s, timeout_s or own_s)
            admission.deadline = admission.start + own_s

    async def infer(
        self, inputs: Sequence[Input], requested: Sequence[Requested], admission: Admission
    ) -> Output:
        """Each photo is one to the scheduler; the first that fails, fails the request.

        Raises a ServeError.
        """
        signature = signature_of(admission.served, admission.model)
        classes = signature.classes(requested)
        images = signature.images(inputs)
        tasks = [
            asyncio.ensure_future(self._infer_one(image, f"photo {i}: ", admission))
            for i, image in enumerate(images)
        ]
        try:
            outcomes = await asyncio.gather(*tasks)
        finally:
            while tasks:  # or task, error, traceback, this frame: a circle
                tasks.pop().cancel()
        return signature.output(np.stack([o.probabilities for o in outcomes]), classes)

    async def _infer_one(self, image: Image, position: str, admission: Admission) -> Outcome:
        try:
            return await self.plane.infer(image, admission)
        except (BadImage, UnsupportedImage, TooLarge) as error:
            raise type(error)(f"{position}{error}") from None


def signature_of(served: Served, name: str) -> Signature:
    """What one of the two models of a version takes and gives."""
    model = served.model
    labels, most = model.bundle.labels, served.policy.max_batch_size
    if name == model.name:
        return Signature(name, "image", "BYTES", (1,), labels, most)
    crop = model.bundle.manifest.preprocess.crop
    return Signature(name, "pixels", "UINT8", (crop, crop, 3), labels, most)
