"""The input of conv1: normalised pixels, with each 4 x 4 of them as one block of 48 channels.

conv1 has a window of 11 x 11 pixels of 3 channels and stride 4. On blocks it is a 3 x 3 window with
stride 1, whose 12th row and column of weights are 0: 1.19 times the multiplications, in a shape for
matrix units. Experimental: not yet measured on a GPU.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.tensors import FLOATS, FUSED, check

SIDE, WINDOW = 4, 11  # px; stride and window of conv1
_BLOCKS = 64  # adjacent ones per program; a crop of 224 px has 57 in a row


class View(NamedTuple):
    """The input of conv1: (pixel - mean) / std per channel, then padded with 0."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    padding: tuple[int, int] = (2, 2)
    """px before and behind, on both axes: (2, 2) in one tower, (0, 3) in the network of 2012."""

    def blocks(self, px: int) -> int:
        """Blocks along a side: conv1's outputs and 2 more."""
        room = px + sum(self.padding) - WINDOW
        if room < 0:
            raise ValueError(f"conv1 needs {px - room} px on a side; the images have {px}")
        return room // SIDE + 3


def in_blocks(images: Tensor, view: View, dtype: torch.dtype = torch.float16) -> Tensor:
    """uint8 (N, H, W, 3) -> (N, BH, BW, 48): channels are row, column, colour within a block."""
    check("images", images, ("N", "H", "W", 3), torch.uint8)
    count, height, width, _ = images.shape
    high, broad = view.blocks(height), view.blocks(width)
    y = torch.empty((count, high, broad, 3 * SIDE**2), dtype=dtype, device=images.device)
    check("blocks", y, ("N", "BH", "BW", 48), *FLOATS)
    _in_blocks[(triton.cdiv(broad, _BLOCKS), high, count)](
        images, y, MEAN=tuple(view.mean), FACTOR=tuple(1 / std for std in view.std),
        H=height, W=width, BROAD=broad, BEFORE=view.padding[0], BLOCKS=_BLOCKS,
        num_warps=2, **FUSED,
    )  # fmt: skip
    return y


def in_blocks_ref(images: Tensor, view: View, dtype: torch.dtype = torch.float16) -> Tensor:
    """The reference of `in_blocks` in torch."""
    exact = torch.promote_types(dtype, torch.float32)
    mean, std = (torch.tensor(v, dtype=exact, device=images.device) for v in view[:2])
    high, broad = map(view.blocks, images.shape[1:3])
    before = view.padding[0]
    right, below = (
        SIDE * blocks - before - px
        for blocks, px in ((broad, images.shape[2]), (high, images.shape[1]))
    )
    x = F.pad((images.to(exact) - mean) / std, (0, 0, before, right, before, below))
    x = x.unflatten(2, (broad, SIDE)).unflatten(1, (high, SIDE))
    return x.transpose(2, 3).flatten(3).to(dtype)


def in_blocks_weight(weight: Tensor) -> Tensor:
    """conv1's (maps, 3, 11, 11) -> (maps, 48, 3, 3), channels last, for conv2d without padding."""
    weight = F.pad(weight, (0, 1, 0, 1)).unflatten(3, (3, SIDE)).unflatten(2, (3, SIDE))
    weight = weight.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
    return weight.contiguous(memory_format=torch.channels_last)


@triton.jit
def _in_blocks(
    images, y, MEAN: tl.constexpr, FACTOR: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    BROAD: tl.constexpr, BEFORE: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    across = (tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS))[:, None]
    down, image = tl.program_id(1), tl.program_id(2).to(tl.int64)
    images += image * (H * W * 3)
    y += (image * tl.num_programs(1) + down) * (BROAD * 48)
    for part in tl.static_range(3):  # 48 is no power of two
        channel = (part * 16 + tl.arange(0, 16))[None, :]
        row = down * 4 + channel // 12 - BEFORE
        byte = across * 12 + channel % 12 - BEFORE * 3
        there = (row >= 0) & (row < H) & (byte >= 0) & (byte < W * 3)
        pixel = tl.load(images + row * (W * 3) + byte, there, other=0).to(tl.float32)
        colour = channel % 3
        mean = tl.where(colour == 0, MEAN[0], tl.where(colour == 1, MEAN[1], MEAN[2]))
        factor = tl.where(colour == 0, FACTOR[0], tl.where(colour == 1, FACTOR[1], FACTOR[2]))
        value = tl.where(there, (pixel - mean) * factor, 0.0).to(y.dtype.element_ty)
        tl.store(y + across * 48 + channel, value, across < BROAD)
