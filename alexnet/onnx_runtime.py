"""ONNX Runtime, silenced: the one door to it.

Since 1.31 it asks the name server for a host of Microsoft and keeps the id of a device under
~/.cache, on Linux, too, and from the import on. What serves photos tells no stranger about it.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, by the import

import onnxruntime

__all__ = ["onnxruntime"]
