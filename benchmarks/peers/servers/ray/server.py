"""Ray Serve: a replica for each core, which decodes, batches and runs the network on one thread."""

import os

import numpy as np
from photo_model import CORES, PhotoModel, crop_of
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=CORES, max_ongoing_requests=64, ray_actor_options={"num_cpus": 1})
class Classifier:
    def __init__(self) -> None:
        self.model = PhotoModel(threads=1)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)
    async def classify(self, photos: list[bytes]) -> list[list[dict]]:
        return self.model.classify(np.stack([crop_of(each, self.model.spec) for each in photos]))

    async def __call__(self, request: Request) -> list[dict]:
        return await self.classify(await request.body())


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Classifier.bind(), blocking=True)
