"""The number of NVIDIA GPUs visible to this process, without any NVIDIA package."""

import ctypes


def count() -> int:
    """0 without a working driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    number = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(number)) != 0:
        return 0
    return number.value
