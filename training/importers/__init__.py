"""A file of weights -> a plain network that can be exported, with its facts."""

from pathlib import Path

from training.checkpoint import CheckpointError
from training.importers import bundle, convnet_file, cuda_convnet, finished, torchvision
from training.importers.base import TrainedModel
from training.importers.torchvision import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "TrainedModel", "load_model"]


def load_model(
    path: Path, classes: Path | None = None, *, names: Path | None = None, mean: Path | None = None
) -> TrainedModel:
    """Recognises and reads a file of weights; all that it raises is CheckpointError.

    `.safetensors`         our own finished model, or tensors with torchvision's names
    `.pth`, `.pt`          torchvision's state dict, of any number of classes
    `.caffemodel`          BVLC's AlexNet
    `.tar.xz`, a folder    our own bundle
    anything else          a checkpoint of cuda-convnet: its folder `ConvNet__...` or the file

    `classes` is a text file with one synset a line, in the order of the network's outputs. It is
    required for cuda-convnet's checkpoints and an error with other files. `names` is one with a
    class a line; it is for torchvision's files, which do not name theirs.

    `mean` is the file with the mean image of a caffemodel (a binaryproto) or of a checkpoint of
    cuda-convnet (a `batches.meta`), and an error with other files. Without it these networks take
    the mean of each channel of ImageNet.
    """
    if not path.exists():
        raise CheckpointError(f"there are no weights at {path}")
    for given in (path, classes, names, mean):
        if given and given.exists() and not (given.is_file() or given.is_dir()):
            raise CheckpointError(f"{given} is no plain file")  # a FIFO blocks, a device never ends
    try:
        return _load(path, classes, names, mean)
    except OSError as error:
        file = error.filename or path
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from None
    except (MemoryError, RecursionError):
        raise CheckpointError(f"{path} is damaged: too large or too deeply nested") from None


def _load(path: Path, classes: Path | None, names: Path | None, mean: Path | None) -> TrainedModel:
    suffix = path.suffix.lower()
    known = suffix in (".safetensors", ".pth", ".pt", ".caffemodel")
    if suffix in (".pth", ".pt"):
        model = torchvision.load_pickled(path, names)
    elif suffix == ".safetensors" and torchvision.recognises(path):
        model = torchvision.load_safetensors(path, names)
    elif names is not None:
        raise CheckpointError(f"the classes of {path} have names: leave out --classes")
    elif bundle.recognises(path):
        model = bundle.load(path)
    elif not known and convnet_file.recognises(path):
        return cuda_convnet.load(path, classes, mean)
    else:
        model = _with_known_classes(path, suffix, mean)
    if classes is not None:
        raise CheckpointError(
            f"the order of the classes in {path} is known: leave out --class-order, which is for "
            "checkpoints of cuda-convnet"
        )
    if mean is not None and suffix != ".caffemodel":
        raise CheckpointError(
            f"the mean of {path} is known: leave out --mean, which is for the weights of Caffe and "
            "cuda-convnet"
        )
    return model


def _with_known_classes(path: Path, suffix: str, mean: Path | None) -> TrainedModel:
    if suffix == ".caffemodel":
        from training.importers import caffe  # protobuf is needed here only

        return caffe.load(path, mean)
    if torchvision.recognises(path):  # whatever its name
        return torchvision.load_safetensors(path, None)
    return finished.load(path)
