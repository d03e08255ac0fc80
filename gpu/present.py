"""How many NVIDIA GPUs the driver shows this process, asked without any package of theirs."""

import ctypes


def count() -> int:
    """0 where there is no driver, or none that works."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    number = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(number)) != 0:
        return 0
    return number.value
