"""Collected only by tests/gpu_build/test_kernels.py, in a process with Triton's interpreter."""

import os

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]
