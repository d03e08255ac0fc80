"""LitServe: a worker for each core, which decodes, batches and runs the network on one thread."""

import os

import litserve
import numpy as np
from fastapi import UploadFile
from photo_model import CORES, PhotoModel, crop_of


class Classifier(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = PhotoModel(threads=1)

    def decode_request(self, request: UploadFile) -> np.ndarray:
        return crop_of(request.file.read(), self.model.spec)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, inputs: np.ndarray) -> list[list[dict]]:
        return self.model.classify(inputs)

    def unbatch(self, output: list[list[dict]]) -> list[list[dict]]:
        return output

    def encode_response(self, output: list[dict]) -> list[dict]:
        return output


if __name__ == "__main__":
    api = Classifier(max_batch_size=8, batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=CORES)
    server.run(
        port=int(os.environ["PORT"]),
        host="127.0.0.1",
        log_level="warning",
        generate_client_file=False,
    )
