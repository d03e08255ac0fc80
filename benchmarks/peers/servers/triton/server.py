"""Triton, as PyTriton starts it: its dynamic batcher, and an instance for each core."""

import os

import numpy as np
from photo_model import CORES, PhotoModel, crop_of
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


class Classifier:
    def __init__(self) -> None:
        self.model = PhotoModel(threads=1)

    @batch
    def __call__(self, photo: np.ndarray) -> dict[str, np.ndarray]:
        crops = np.stack([crop_of(data, self.model.spec) for (data,) in photo])
        found = self.model.classify(crops)
        return {
            "label": np.char.encode([[each["label"] for each in best] for best in found], "utf-8"),
            "probability": np.array(
                [[each["probability"] for each in best] for best in found], np.float32
            ),
        }


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(os.environ["PORT"]),
        allow_grpc=False,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="alexnet",
            infer_func=[Classifier() for _ in range(CORES)],
            inputs=[Tensor(name="photo", dtype=np.bytes_, shape=(1,))],
            outputs=[
                Tensor(name="label", dtype=np.bytes_, shape=(-1,)),
                Tensor(name="probability", dtype=np.float32, shape=(-1,)),
            ],
            config=ModelConfig(max_batch_size=16, batcher=DynamicBatcher()),
        )
        triton.serve()
