"""Checks of the tensors that are passed to kernels."""

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)
FLOATS = (*HALVES, torch.float32)
FUSED = {"enable_fp_fusion": True}  # a * b + c in one instruction; off by default in Triton 3.10


def check(name: str, tensor: Tensor, shape: tuple[int | str, ...], *dtypes: torch.dtype) -> None:
    """ValueError unless contiguous, of one of `dtypes` and of that shape; text is any size > 0."""
    fits = tensor.ndim == len(shape) and all(
        have > 0 if isinstance(want, str) else have == want
        for want, have in zip(shape, tensor.shape, strict=True)
    )
    if not (fits and tensor.dtype in dtypes and tensor.is_contiguous()):
        wanted = " or ".join(str(dtype) for dtype in dtypes)
        layout = "" if tensor.is_contiguous() else "not contiguous, "
        raise ValueError(
            f"{name} must be a contiguous ({', '.join(map(str, shape))}) of {wanted}; "
            f"it is {layout}{tuple(tensor.shape)} of {tensor.dtype}"
        )


def wide(tensor: Tensor) -> Tensor:
    """Converts to float32, in which the kernels compute; float64 is unchanged."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def moved(*tensors: Tensor) -> int:
    """Bytes that a kernel moves: it reads or writes each of its tensors once."""
    return sum(tensor.nbytes for tensor in tensors)
