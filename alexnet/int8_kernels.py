"""What ONNX Runtime's int8 kernels do on this CPU.

Without VNNI (AVX2, and AVX-512 before it) they add pairs of products of a uint8 and an int8 in 16
bits, where they saturate: the probabilities of an int8 graph are off by up to 0.19 (ADR 36).
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import platform
import re
from pathlib import Path

from alexnet.onnx_runtime import onnxruntime


def saturates(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU is known to be one of these."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return found is not None and not re.search(r"\bavx(512)?_vnni\b", found[1])


def exact_sums(options: onnxruntime.SessionOptions) -> None:
    """Sums in 32 bits, which saturate nowhere. A CPU with VNNI has no others, and would take twice
    the time for the same answers if it were asked for them."""
    if saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
