"""The calls to TensorRT and their order, with a fake TensorRT."""

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("onnx", reason="comes with what exports")

from gpu.facts import Gpu
from gpu.plan import Plan, PlanError, PlanKey
from gpu.programs import trt
from gpu.programs.trt import TensorRtProgram
from tests.gpus import FakeDevice

KEY = PlanKey("0" * 64, "fp16", (1, 4), "tensorrt 11.4", Gpu("NVIDIA H200", (9, 0), "580"))
PLAN = Plan(KEY, b"engine")


class Context:
    def __init__(self, said: list[tuple[Any, ...]]):
        self._said = said
        self.refuses = ""
        self.lacks: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self._said.append((name, *arguments))
            return self.lacks if name == "infer_shapes" else name != self.refuses

        return call


class FakeTensorRt:
    """Its engine makes contexts that note every call."""

    __name__, __version__ = "tensorrt", "11.4"
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="ours")
    device_memory_size_v2 = 1000
    ILogger = SimpleNamespace(Severity=SimpleNamespace(WARNING=2))

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.contexts: list[Context | None] = []
        self.loads = True
        self.made_with: list[Any] = []

    def Logger(self, severity: int) -> None: ...  # noqa: N802

    Logger.WARNING = 2  # type: ignore[attr-defined]

    def Runtime(self, logger: object) -> Any:  # noqa: N802
        return self

    def deserialize_cuda_engine(self, engine: bytes) -> Any:
        self.said.append(("deserialize", engine))
        return self if self.loads else None

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 8, 8, 3)

    def create_execution_context(self, how: Any) -> Context | None:
        self.made_with.append(how)
        return self.contexts.pop(0) if self.contexts else Context(self.said)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    fake = FakeTensorRt()
    monkeypatch.setattr(trt, "tensorrt", lambda: fake)
    return fake


def test_a_size_is_set_up_warmed_up_and_then_captured(fake: FakeTensorRt) -> None:
    device = FakeDevice()
    program = TensorRtProgram(PLAN, device)
    stream = device.stream()
    launch = program.prepare(4, 64, 128, stream)
    assert program.name == "tensorrt-fp16"
    assert fake.said == [
        ("deserialize", b"engine"),
        ("set_optimization_profile_async", 1, stream),
        ("set_input_shape", "images", (4, 8, 8, 3)),
        ("set_tensor_address", "images", 64),
        ("set_tensor_address", "logits", 128),
        ("infer_shapes",),
        ("set_device_memory", program._scratch, 1000),
        ("execute_async_v3", stream),
        ("execute_async_v3", stream),
    ]
    assert device.captured == 1
    launch()
    assert len(fake.said) == 9, "a replay does not ask TensorRT again"


def test_every_capture_has_a_context_of_its_own(fake: FakeTensorRt) -> None:
    contexts = [Context(fake.said) for _ in range(3)]
    fake.contexts = list(contexts)
    device = FakeDevice()
    program = TensorRtProgram(PLAN, device)
    for size in (4, 1, 4):
        program.prepare(size, 64, 128, device.stream())
    assert fake.contexts == []
    program.close()


def test_all_sizes_compute_in_the_same_memory(fake: FakeTensorRt) -> None:
    program = TensorRtProgram(PLAN, device := FakeDevice())
    stream = device.stream()
    for size in (4, 1, 4):
        program.prepare(size, 64, 128, stream)
    given = {said[1:] for said in fake.said if said[0] == "set_device_memory"}
    assert given == {(program._scratch, 1000)}
    assert fake.made_with == ["ours"] * 3
    assert len(device.at(program._scratch, (1000,), "u1")) == 1000


def test_rtx_compiles_the_kernels_of_a_size_before_they_are_captured(fake: FakeTensorRt) -> None:
    class Config(SimpleNamespace):
        def set_execution_context_allocation_strategy(self, strategy: str) -> None:
            self.memory = strategy

    kernels = SimpleNamespace(EAGER="eager")
    vars(fake)["DynamicShapesKernelSpecializationStrategy"] = kernels
    vars(fake)["create_runtime_config"] = Config
    TensorRtProgram(PLAN, device := FakeDevice()).prepare(4, 64, 128, device.stream())
    assert fake.made_with == [
        Config(memory="ours", dynamic_shapes_kernel_specialization_strategy="eager")
    ]


def test_the_error_says_that_a_plan_cannot_be_loaded(fake: FakeTensorRt) -> None:
    fake.loads = False
    with pytest.raises(PlanError, match=r"^tensorrt 11\.4 cannot load the plan on GPU 0; its log"):
        TensorRtProgram(PLAN, FakeDevice())


def test_the_error_names_the_sizes_that_the_plan_has(fake: FakeTensorRt) -> None:
    program = TensorRtProgram(PLAN, FakeDevice())
    with pytest.raises(PlanError, match=r"the plan is for batches of 1, 4, not of 8"):
        program.prepare(8, 64, 128, 1)


def test_the_error_says_that_there_is_no_memory_for_a_context(fake: FakeTensorRt) -> None:
    fake.contexts = [None]
    with pytest.raises(PlanError, match="GPU 0 has no memory for batches of 4"):
        TensorRtProgram(PLAN, FakeDevice()).prepare(4, 64, 128, 1)


@pytest.mark.parametrize(
    "call", ["set_optimization_profile_async", "set_input_shape", "set_tensor_address"]
)
def test_a_call_that_tensorrt_refuses_is_an_error(fake: FakeTensorRt, call: str) -> None:
    context = Context(fake.said)
    context.refuses = call
    fake.contexts = [context]
    with pytest.raises(PlanError, match="does not take batches of 4"):
        TensorRtProgram(PLAN, FakeDevice()).prepare(4, 64, 128, 1)


def test_an_input_that_is_not_set_is_an_error(fake: FakeTensorRt) -> None:
    context = Context(fake.said)
    context.lacks = ["images"]
    fake.contexts = [context]
    with pytest.raises(PlanError, match="does not take batches of 4"):
        TensorRtProgram(PLAN, FakeDevice()).prepare(4, 64, 128, 1)


def test_a_run_that_fails_is_an_error(fake: FakeTensorRt) -> None:
    context = Context(fake.said)
    context.refuses = "execute_async_v3"
    fake.contexts = [context]
    with pytest.raises(PlanError, match="could not run a batch of 4"):
        TensorRtProgram(PLAN, FakeDevice()).prepare(4, 64, 128, 1)
