"""TensorRT, or TensorRT for RTX: a plan, run through one context and one CUDA graph per size."""

from typing import Any

from alexnet.spec import INPUT_NAME, OUTPUT_NAME
from gpu.buckets import Device, Launch
from gpu.plan import Plan, PlanError, tensorrt


class TensorRtProgram:
    """Of a plan that was built for this GPU: `Plan.read` checks that. Raises PlanError."""

    def __init__(self, plan: Plan, device: Device):
        trt: Any = tensorrt()
        self.name = f"{trt.__name__.replace('_', '-')}-{plan.key.precision}"
        self._key, self._device = plan.key, device
        device.use()
        self._trt = trt
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(plan.engine)
        if self._engine is None:
            raise PlanError(
                f"{trt.__name__} {trt.__version__} cannot load the plan on GPU {device.number}; "
                "its log says why"
            )
        # Of all sizes: they run one after the other, on one stream.
        self._scratch_bytes = self._engine.device_memory_size_v2
        self._scratch = device.memory(self._scratch_bytes)
        self._shape = tuple(self._engine.get_tensor_shape(INPUT_NAME))[1:]
        self._contexts: list[Any] = []

    def prepare(self, size: int, images: int, logits: int, stream: int) -> Launch:
        """Raises PlanError for a size that the plan was not built for."""
        profile = self._key.profile(size)
        context = self._make_context()
        if context is None:
            raise PlanError(f"GPU {self._device.number} has no memory for batches of {size}")
        # A graph is bound to its context: neither may be used for anything else.
        self._contexts.append(context)
        accepted = (
            context.set_optimization_profile_async(profile, stream),
            context.set_input_shape(INPUT_NAME, (size, *self._shape)),
            context.set_tensor_address(INPUT_NAME, images),
            context.set_tensor_address(OUTPUT_NAME, logits),
        )
        if not all(accepted) or context.infer_shapes():
            raise PlanError(f"TensorRT does not take batches of {size}; its log says why")

        context.set_device_memory(self._scratch, self._scratch_bytes)

        def enqueue() -> None:
            if not context.execute_async_v3(stream):
                raise PlanError(f"TensorRT could not run a batch of {size}; its log says why")

        enqueue()  # the first run after a change of shapes sets things up, which no graph may hold
        return self._device.graph(enqueue, stream)

    def _make_context(self) -> Any:
        """None without memory. By default each would have memory for the largest size."""
        memory = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        kernels = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if kernels is None:
            return self._engine.create_execution_context(memory)
        # RTX, which else runs other kernels while it compiles those for a size: a graph would keep
        # them for ever (https://github.com/pytorch/TensorRT/issues/4187).
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(memory)
        config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
        return self._engine.create_execution_context(config)

    def close(self) -> None:
        self._contexts.clear()
        del self._engine, self._runtime
