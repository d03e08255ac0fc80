"""The number of NVIDIA GPUs visible to this process, without any NVIDIA package."""

import ctypes
import logging

log = logging.getLogger(__name__)

# A stub in place of the driver, and no GPU:
# https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html
NONE_HERE = (34, 100)


def count() -> int:
    """0 without a driver, and with a warning where there is one that does not work."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    number = ctypes.c_int(0)
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(number))
    if not failed:
        return number.value
    if failed not in NONE_HERE:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(failed, ctypes.byref(text))
        log.warning(
            "GPUs are not used: the NVIDIA driver is here and does not work: %s (CUDA error %d); "
            "nvidia-smi says more, and a driver that was updated needs a reboot",
            (text.value or b"an unknown error").decode(), failed,
        )  # fmt: skip
    return 0
