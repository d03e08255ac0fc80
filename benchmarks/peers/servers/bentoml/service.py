"""BentoML: adaptive batching, and a worker for each core that runs the network on one thread."""

from pathlib import Path

import bentoml
import numpy as np
from photo_model import CORES, PhotoModel, crop_of


@bentoml.service(workers=CORES, traffic={"timeout": 60})
class Classifier:
    def __init__(self) -> None:
        self.model = PhotoModel(threads=1)

    @bentoml.api(batchable=True, max_batch_size=16, max_latency_ms=1000)
    def classify(self, photos: list[Path]) -> list[list[dict]]:
        crops = [crop_of(photo.read_bytes(), self.model.spec) for photo in photos]
        return self.model.classify(np.stack(crops))
