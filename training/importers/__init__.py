"""A file of weights -> a plain network that can be exported, with its facts."""

from pathlib import Path

from training.checkpoint import CheckpointError
from training.importers import convnet_file, cuda_convnet, finished, torchvision
from training.importers.base import TrainedModel
from training.importers.torchvision import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "TrainedModel", "load_model"]


def load_model(path: Path, classes: Path | None = None) -> TrainedModel:
    """Recognises and reads a file of weights; all that it raises is CheckpointError.

    `.safetensors`         our own finished model, or tensors with torchvision's names
    `.pth`, `.pt`          torchvision's state dict
    `.caffemodel`          BVLC's AlexNet
    anything else          a checkpoint of cuda-convnet: its folder `ConvNet__...` or the file

    `classes` is a text file with one synset a line, in the order of the network's outputs. It is
    required for cuda-convnet's checkpoints and an error with other files.
    """
    if not path.exists():
        raise CheckpointError(f"there are no weights at {path}")
    try:
        return _load(path, classes)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except (MemoryError, RecursionError):
        raise CheckpointError(f"{path} is damaged: too large or too deeply nested") from None


def _load(path: Path, classes: Path | None) -> TrainedModel:
    suffix = path.suffix.lower()
    known = suffix in (".safetensors", ".pth", ".pt", ".caffemodel")
    if not known and convnet_file.recognises(path):
        return cuda_convnet.load(path, classes)
    model = _with_known_classes(path, suffix)
    if classes is not None:
        raise CheckpointError(
            f"the order of the classes in {path} is known: leave out --class-order, which is for "
            "checkpoints of cuda-convnet"
        )
    return model


def _with_known_classes(path: Path, suffix: str) -> TrainedModel:
    if suffix == ".caffemodel":
        from training.importers import caffe  # protobuf is needed here only

        return caffe.load(path)
    if suffix in (".pth", ".pt"):
        return torchvision.load_pickled(path)
    if torchvision.recognises(path):
        return torchvision.load_safetensors(path)
    return finished.load(path)
