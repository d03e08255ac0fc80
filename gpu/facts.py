"""The GPU to which a plan is bound, as the driver describes it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    name: str
    """Empty, like the driver, for any GPU of that compute capability."""
    capability: tuple[int, int]
    driver: str

    def __str__(self) -> str:
        major, minor = self.capability
        return f"{self.name or 'any GPU'} (compute capability {major}.{minor})"


def facts(device: int) -> Gpu:
    """`device` is CUDA's number, which may differ from NVML's. Raises RuntimeError."""
    import pynvml
    from cuda.bindings import runtime

    failed, properties = runtime.cudaGetDeviceProperties(device)
    if failed != runtime.cudaError_t.cudaSuccess:
        _, text = runtime.cudaGetErrorString(failed)
        raise RuntimeError(f"GPU {device} cannot be used: {text.decode()} ({failed.name})")
    try:
        pynvml.nvmlInit()
        driver = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise RuntimeError(f"the version of the NVIDIA driver is unknown: {error}") from None
    return Gpu(properties.name.decode(), (properties.major, properties.minor), driver)
