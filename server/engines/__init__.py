"""The choice of an artifact and of the runtime for it."""

import logging

from alexnet.bundle import Bundle, BundleError
from alexnet.manifest import Artifact
from server.engines.base import Engine

log = logging.getLogger(__name__)

# Fastest first on a CPU: int8 AlexNet runs at 2.5 to 5 times the rate of fp32 (docs/records/).
PREFERENCE = ("int8", "fp32")


def choose(bundle: Bundle, precision: str) -> Artifact:
    """The artifact to serve; raises BundleError when the bundle has none of that precision."""
    usable = {a.precision: a for a in bundle.manifest.artifacts if a.runtime == "onnxruntime"}
    wanted = PREFERENCE if precision == "auto" else (precision,)
    for name in wanted:
        if name in usable:
            return usable[name]
    raise BundleError(
        f"{bundle.origin} has no {' or '.join(wanted)} artifact for ONNX Runtime; "
        f"it has {', '.join(sorted(usable)) or 'none at all'}"
    )


def open_engine(bundle: Bundle, artifact: Artifact, threads: int) -> Engine:
    """Loads the runtime, and only now: what is not served is never imported."""
    from server.engines.ort import OrtEngine

    return OrtEngine(bundle.files[artifact.file], bundle.manifest, threads)
