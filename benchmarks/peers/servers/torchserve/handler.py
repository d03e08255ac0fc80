"""TorchServe: its batching, and a worker for each core that runs the ONNX graph on one thread."""

import numpy as np
from photo_model import PhotoModel, crop_of
from ts.context import Context
from ts.torch_handler.base_handler import BaseHandler


class Classifier(BaseHandler):
    def initialize(self, context: Context) -> None:
        self.classifier = PhotoModel(threads=1)
        self.initialized = True

    def preprocess(self, data: list[dict]) -> np.ndarray:
        photos = [row.get("data") or row.get("body") for row in data]
        return np.stack([crop_of(bytes(each), self.classifier.spec) for each in photos])

    def inference(self, data: np.ndarray) -> list[list[dict]]:
        return self.classifier.classify(data)

    def postprocess(self, data: list[list[dict]]) -> list[list[dict]]:
        return data
