"""mosec: a process for each core decodes photos, and one runs the network on batches."""

import numpy as np
from mosec import Server, Worker
from photo_model import CORES, PhotoModel, crop_of, read_spec


class Preprocess(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.spec = read_spec()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> np.ndarray:
        return crop_of(data, self.spec)


class Inference(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.model = PhotoModel()

    def forward(self, data: list[np.ndarray]) -> list[list[dict]]:
        return self.model.classify(np.stack(data))


if __name__ == "__main__":
    server = Server()
    server.append_worker(Preprocess, num=CORES)
    server.append_worker(Inference, max_batch_size=16, max_wait_time=10)
    server.run()
