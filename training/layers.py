"""The layers of 2012 that torch lacks or defines differently."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.fused import cross_map_norm


class CrossMapNorm(nn.Module):
    """Local response normalisation across `size` neighbouring maps of the same column.

    x / (k + alpha / size * sum of squares) ** 0.75 (Krizhevsky et al. 2012, section 3.3). The code
    of 2012 divides alpha by the size of the window, as torch, Caffe and ONNX do; the paper prints
    the formula without. The sum is a 1 x 1 convolution with a banded matrix of ones, which also
    keeps the columns apart: 5 times faster on a CPU than pooling along the channels.
    """

    def __init__(
        self, maps: int, columns: int = 1, size: int = 5, alpha: float = 1e-4, k: float = 2.0
    ):
        super().__init__()
        self.alpha, self.size, self.k, self.columns = alpha, size, k, columns
        self.fused = False
        """On a GPU, use our own kernels: experimental (training/fused.py)."""
        index, column = torch.arange(maps), torch.arange(maps) // (maps // columns)
        near = (index[:, None] - index).abs() <= size // 2
        band = (near & (column[:, None] == column)).float()
        self.band: Tensor
        self.register_buffer("band", band[:, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.fused and x.is_cuda and self.size == 5:
            return cross_map_norm(x, self.alpha, self.k, self.columns)
        with torch.autocast(x.device.type, enabled=False):  # squares of 0-255 pixels need float32
            x = x.float()
            base = self.k + self.alpha / self.size * F.conv2d(x * x, self.band)
            return x * torch.rsqrt(base * base.sqrt())


class SpatialNorm(nn.Module):
    """Response normalisation over a `size` x `size` window of the same map.

    In the code of 2012 after the second cross-map norm; the paper does not mention it. Its alpha
    is divided by the whole window, zeros beyond the border included.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-3, k: float = 1.0):
        super().__init__()
        self.size, self.alpha, self.k = size, alpha, k

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            base = self.k + self.alpha * F.avg_pool2d(x * x, self.size, 1, self.size // 2)
            return x * torch.rsqrt(base * base.sqrt())


class UnscaledDropout(nn.Module):
    """Dropout as in 2012: no scaling in training, outputs halved at test.

    (N, features) -> (N, features). torch scales in training instead: the two agree only if the
    weights behind are halved (training/plain.py).
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = p
        self.column, self.columns = 0, 1
        """The part of the features that this process holds (training/columns.py)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * (1 - self.p)
        if self.p == 0:
            return x
        # The mask of the whole layer is drawn, so that two devices give the same result as one.
        width = x.shape[1]
        kept = torch.rand(len(x), width * self.columns, device=x.device) >= self.p
        return x * kept[:, self.column * width : (self.column + 1) * width]
