"""What the Open Inference Protocol says of the server and its models.

It is written once, as the protocol's JSON: REST sends it as it is, gRPC has protobuf read it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alexnet import __version__
from server.api.oip.models import OipModels, signature_of
from server.api.oip.tensors import OUTPUT
from server.models.control import AllCounts
from server.scheduler.pipeline import Pipeline
from server.telemetry.counts import Counts, Duration

Json = dict[str, Any]

# By Triton's names.
EXTENSIONS = (
    "classification", "schedule_policy", "model_configuration", "binary_tensor_data", "statistics",
)  # fmt: skip
_CONFIG_TYPES = {"BYTES": ("TYPE_STRING", "FORMAT_NONE"), "UINT8": ("TYPE_UINT8", "FORMAT_NHWC")}


def server(extensions: Sequence[str]) -> Json:
    names = [*EXTENSIONS, *extensions]
    return {"name": "alexnet-server", "version": __version__, "extensions": names}


def metadata(models: OipModels, name: str, version: str) -> Json:
    """The batch is -1. Raises NotFound, and so does `config`."""
    served = models.pick(name, version)
    image = signature_of(served, name)
    return {
        "name": name,
        "versions": [served.number for served in models.service.repository.served],
        "platform": _platform(served),
        "inputs": [{"name": image.input, "datatype": image.datatype, "shape": [-1, *image.dims]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, len(image.labels)]}],
    }


def config(models: OipModels, name: str, version: str) -> Json:
    """Triton's model configuration, as far as it has a meaning here."""
    served = models.pick(name, version)
    image, policy, limits = signature_of(served, name), served.policy, models.service.limits
    artifact, labels = served.model.artifact, served.model.bundle.manifest.labels
    kind, layout = _CONFIG_TYPES[image.datatype]
    return {
        "name": name,
        "platform": _platform(served),
        "backend": artifact.runtime,
        "default_model_filename": artifact.file,
        "max_batch_size": policy.max_batch_size,
        "input": [{"name": image.input, "data_type": kind, "format": layout, "dims": image.dims}],
        "output": [
            {
                "name": OUTPUT,
                "data_type": "TYPE_FP32",
                "dims": [len(image.labels)],
                "label_filename": labels.file,
            }
        ],
        "dynamic_batching": {
            "preferred_batch_size": policy.preferred_batch_size,
            "max_queue_delay_microseconds": round(policy.max_queue_delay_s * 1e6),
            "priority_levels": limits.priority_levels,
            "default_priority_level": limits.default_priority_level,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": round(limits.request_timeout_s * 1e6),
                "allow_timeout_override": True,
                "max_queue_size": limits.max_queue_size,
            },
        },
        "model_transaction_policy": {"decoupled": False},
    }


def statistics(models: OipModels, name: str, version: str, counts: AllCounts) -> Json:
    """Of all models without a name, of all its versions without a version."""
    if name:
        models.check(name)
    repository = models.service.repository
    return {
        "model_stats": [
            {"name": each, "version": served.number, **_counts(counts[each, served.number])}
            for served in ([repository.pick(version)] if version else repository.served)
            for each in ([name] if name else models.names)
        ]
    }


def _platform(served: Pipeline) -> str:
    """As Triton calls it: onnxruntime_onnx, tensorrt_plan."""
    artifact = served.model.artifact
    return f"{artifact.runtime}_{Path(artifact.file).suffix[1:]}"


def _counts(counted: Counts) -> Json:
    return {
        "last_inference": counted.last_ms,
        "inference_count": counted.photos,
        "execution_count": counted.executions,
        "inference_stats": {
            "success": _duration(counted.success),
            "fail": _duration(counted.fail),
            "queue": _duration(counted.queue),
            "compute_input": _duration(counted.decode),
            "compute_infer": _duration(counted.infer),
            "compute_output": _duration(counted.output),
            "cache_hit": _duration(counted.cache_hit),
            "cache_miss": _duration(counted.cache_miss),
        },
        "batch_stats": [
            {
                "batch_size": size,
                # Photos are decoded, and answers made, one by one: outside of any batch.
                "compute_input": _duration(Duration(runs.count)),
                "compute_infer": _duration(runs),
                "compute_output": _duration(Duration(runs.count)),
            }
            for size, runs in sorted(counted.batches.items())
        ],
    }


def _duration(duration: Duration) -> Json:
    return {"count": duration.count, "ns": duration.ns}
