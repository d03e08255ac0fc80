"""MLServer: a custom runtime with adaptive batching, in a worker for each core."""

import json

import numpy as np
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from photo_model import PhotoModel, crop_of


class Classifier(MLModel):
    async def load(self) -> bool:
        self.model = PhotoModel(threads=1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        photos = self.decode(payload.inputs[0])
        found = self.model.classify(np.stack([crop_of(each, self.model.spec) for each in photos]))
        classes = StringCodec.encode_output("classes", [json.dumps(best) for best in found])
        return InferenceResponse(model_name=self.name, outputs=[classes])
