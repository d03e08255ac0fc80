"""Calls to a fake driver: their order, their errors, and the cleanup."""

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("cuda.bindings", reason="make test-gpu-build has it")

import numpy as np
from cuda.bindings import runtime

from gpu import cuda
from gpu.alone import ALONE
from gpu.cuda import CudaDevice, CudaError
from gpu.present import count

SUCCESS = runtime.cudaError_t.cudaSuccess
NO_MEMORY = runtime.cudaError_t.cudaErrorMemoryAllocation


class Driver:
    """Records each call and returns success and a new handle; fails the calls in `failing`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.failing: set[str] = set()
        self.alone: set[str] = set()
        """Calls in which no other thread could capture, or be closed."""
        self.host = np.zeros(1 << 12, np.uint8)

    def __getattr__(self, name: str) -> Any:
        real = getattr(runtime, name)
        if not callable(real) or name.startswith("cudaMemcpyKind") or isinstance(real, type):
            return real
        if name == "cudaGetErrorString":
            return real

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, arguments))
            if ALONE.locked():
                self.alone.add(name)
            if name in self.failing:
                return NO_MEMORY, None
            if name == "cudaHostAlloc":
                return SUCCESS, self.host.ctypes.data
            if name == "cudaEventElapsedTime":
                return SUCCESS, 2.5
            return SUCCESS, len(self.calls) * 16

        return call

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    monkeypatch.setattr(cuda, "runtime", driver)
    return driver


@pytest.mark.skipif(count() > 0, reason="there is a GPU here")
def test_without_a_gpu_the_error_says_which_device_and_why() -> None:
    with pytest.raises(CudaError, match=r"GPU 3 cannot be used: .*driver"):
        CudaDevice(3)


def test_a_gpu_says_what_it_is(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SUCCESS, SimpleNamespace(name=b"NVIDIA H200")
    monkeypatch.setattr(driver, "cudaGetDeviceProperties", lambda number: found, raising=False)
    monkeypatch.setattr(driver, "cudaDriverGetVersion", lambda: (SUCCESS, 13000), raising=False)
    assert CudaDevice().about == "NVIDIA H200, CUDA 13000"


def test_copies_use_the_given_stream(driver: Driver) -> None:
    device = CudaDevice(1)
    array = np.zeros((2, 3), np.float32)
    device.copy_in(64, array, 7)
    device.copy_out(array, 64, 7)
    kinds = runtime.cudaMemcpyKind
    address = array.ctypes.data
    assert driver.calls[-2:] == [
        ("cudaMemcpyAsync", (64, address, 24, kinds.cudaMemcpyHostToDevice, 7)),
        ("cudaMemcpyAsync", (address, 64, 24, kinds.cudaMemcpyDeviceToHost, 7)),
    ]
    assert driver.calls[0] == ("cudaSetDevice", (1,))


def test_page_locked_memory_is_a_view_of_the_drivers(driver: Driver) -> None:
    array = CudaDevice().pinned((2, 5, 3), np.uint8)
    array[:] = 7
    assert array.shape == (2, 5, 3)
    assert driver.host[:30].tolist() == [7] * 30
    assert driver.host[30] == 0


def test_memory_on_the_gpu_is_zeroed(driver: Driver) -> None:
    address = CudaDevice().memory(100)
    assert driver.calls[-2] == ("cudaMemset", (address, 0, 100))
    assert driver.names[-1] == "cudaStreamSynchronize", "our streams would not wait for it"


def test_lack_of_memory_is_reported_in_one_sentence(driver: Driver) -> None:
    driver.failing.add("cudaMalloc")
    with pytest.raises(CudaError, match=r"no room for 1,000,000 bytes: .*\(cudaErrorMemoryAlloc"):
        CudaDevice().memory(1_000_000)


def test_a_graph_is_captured_instantiated_and_replayed(driver: Driver) -> None:
    device = CudaDevice()
    seen = []
    replay = device.graph(lambda: seen.append(driver.names[-1]), 5)
    assert seen == ["cudaStreamBeginCapture"]
    assert driver.names[-5:] == [
        "cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate",
        "cudaGraphDestroy", "cudaGraphUpload",
    ]  # fmt: skip
    replay()
    replay()
    assert driver.names[-2:] == ["cudaGraphLaunch"] * 2
    assert driver.calls[-1][1][1] == 5


def test_a_failed_capture_is_ended_and_its_own_error_raised(driver: Driver) -> None:
    def enqueue() -> None:
        raise RuntimeError("the network has a bug")

    with pytest.raises(RuntimeError, match="has a bug"):
        CudaDevice().graph(enqueue, 5)
    assert driver.names[-1] == "cudaStreamEndCapture"


def test_synchronize_raises_the_errors_of_kernels(driver: Driver) -> None:
    driver.failing.add("cudaEventSynchronize")
    with pytest.raises(CudaError, match="running on the GPU: "):
        CudaDevice().synchronize(9)


def test_only_timed_events_record_a_time_and_waiting_sleeps(driver: Driver) -> None:
    device = CudaDevice()
    device.event()
    device.event(timed=True)
    flags = [arguments for name, arguments in driver.calls if name == "cudaEventCreateWithFlags"]
    sleeping, untimed = runtime.cudaEventBlockingSync, runtime.cudaEventDisableTiming
    assert flags == [(sleeping | untimed,), (sleeping,)]
    assert device.elapsed_s(1, 2) == pytest.approx(0.0025)


def test_close_waits_and_frees_everything_in_reverse_order(driver: Driver) -> None:
    device = CudaDevice()
    device.memory(10)
    device.pinned((4,), np.uint8)
    stream = device.stream()
    device.event()
    device.graph(lambda: None, stream)
    driver.calls.clear()
    device.close()
    assert driver.names == [
        "cudaSetDevice", "cudaDeviceSynchronize", "cudaGraphExecDestroy", "cudaEventDestroy",
        "cudaStreamDestroy", "cudaFreeHost", "cudaFree",
    ]  # fmt: skip
    device.close()
    assert "cudaFree" not in driver.names[7:], "nothing is freed twice"


def test_captures_and_what_would_break_them_take_turns(driver: Driver) -> None:
    device = CudaDevice()
    device.graph(lambda: None, device.stream())
    assert driver.alone == {"cudaStreamBeginCapture", "cudaStreamEndCapture"}
    device.close()
    assert {"cudaDeviceSynchronize", "cudaGraphExecDestroy"} < driver.alone
    assert not ALONE.locked()


def test_what_cannot_be_freed_is_logged_and_the_rest_is_freed(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    device = CudaDevice()
    device.memory(10)
    device.event()
    driver.failing |= {"cudaSetDevice", "cudaEventDestroy"}
    device.close()
    assert driver.names[-1] == "cudaFree"
    assert "of GPU 0 not all could be freed: cudaErrorMemoryAllocation" in caplog.text
