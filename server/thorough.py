"""Answers that take more than one run of the network: through the same queues, and priced like any
other work."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alexnet import occlusion
from alexnet.ten_views import cut_ten_views
from server.engines.model import Model
from server.scheduler.job import Answer, Cut, Request
from server.service import Service
from server.telemetry.counts import Timing

OCCLUSION, CAM = "occlusion", "cam"
EXPLANATIONS = (OCCLUSION, CAM)

Crop = NDArray[np.uint8]


def explanations(model: Model) -> list[str]:
    """Those that it can give."""
    return [OCCLUSION, CAM] if model.activation else [OCCLUSION]


@dataclass(frozen=True)
class Explanation:
    """Where in the crop the evidence for a class lies."""

    method: str
    index: int
    """Of the class."""
    shares: NDArray[np.float32]
    """(rows, columns): the evidence at each place, as a share of the most at any."""
    timing: Timing
    """Of the answer and of this."""
    largest_drop: float | None = None
    """Of the class's probability, where the place with the most evidence is hidden; None where
    nothing was."""


async def classify_ten_views(service: Service, request: Request, photo: bytes) -> Answer:
    """The mean of the ten views' probabilities. Raises a ServeError."""
    whole = await service.classify(request, photo, square=True)
    assert whole.photo is not None
    size = whole.version.model.bundle.manifest.preprocess.crop
    views = list(cut_ten_views(whole.photo.crop[None], size)[0])
    request.cut = Cut(time.monotonic(), whole.timing.decode_queue, whole.timing.decode)
    answers = await _classify(service, request, views)
    timing = _with(whole.timing, request, answers)
    mean = np.mean([answer.probabilities for answer in answers], axis=0)
    central = replace(whole.photo, crop=views[len(views) // 2 - 1])
    return replace(answers[0], probabilities=mean, timing=timing, photo=central)


async def explain(
    service: Service, request: Request, answer: Answer, method: str, index: int
) -> Explanation:
    """For the class `index`. Raises a ServeError."""
    assert answer.photo is not None
    if method == CAM:
        return await _by_activation(service, request, answer, index)
    crops = occlusion.hidden(answer.photo.crop)
    request.cut = Cut(time.monotonic())
    answers = await _classify(service, request, crops)
    before, *after = (float(a.probabilities[index]) for a in answers)
    drops = occlusion.drops(before, after)
    timing = _with(answer.timing, request, answers)
    return Explanation(OCCLUSION, index, occlusion.shares(drops), timing, float(drops.max()))


async def _by_activation(
    service: Service, request: Request, answer: Answer, index: int
) -> Explanation:
    timing = answer.timing
    if answer.inside is None:  # of ten views there is none
        assert answer.photo is not None
        request.cut = Cut(time.monotonic())
        answer = await service.classify(request, answer.photo.crop, look_inside=True)
        timing = _with(timing, request, [answer])
    activation = answer.version.model.activation
    assert activation is not None
    assert answer.inside is not None
    shares = await asyncio.to_thread(activation.shares, answer.inside, index)
    timing = replace(timing, total=time.monotonic() - request.start)
    return Explanation(CAM, index, shares, timing)


def _with(timing: Timing, request: Request, runs: Sequence[Answer]) -> Timing:
    """Of a photo, and of the last of the runs that followed side by side: their stages overlap."""
    last = max((run.timing for run in runs), key=lambda timing: timing.total)
    return replace(
        timing,
        batch_queue=timing.batch_queue + last.batch_queue,
        infer=timing.infer + last.infer,
        total=time.monotonic() - request.start,
        batch_size=max(timing.batch_size, *(run.timing.batch_size for run in runs)),
    )


async def _classify(service: Service, request: Request, crops: Sequence[Crop]) -> list[Answer]:
    request.hold_upload(request.uploaded + sum(crop.nbytes for crop in crops))
    answers = await service.classify_many(request, crops, all_or_none=True, fresh=True)
    return [answer for answer in answers if isinstance(answer, Answer)]
