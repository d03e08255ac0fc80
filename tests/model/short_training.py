"""`alexnet-train` with 64 hidden units and recipes of a few steps; run by itself or by torchrun.

In float32, so that sums agree.
"""

from dataclasses import replace

import training.network
from training.__main__ import main
from training.recipe import DEXP, RECIPES, SMOKE

# It also measures the photos. The last of three batches has three photos for one process, two for
# the other.
_SMOKE = replace(
    SMOKE, arch="alexnet", dropout=0.0, precision="fp32", sparsity=0.0,
    mean_image=True, colour_noise=0.1,
)  # fmt: skip

SHORT = {
    "smoke": _SMOKE,
    "modern": replace(_SMOKE, name="modern", frozen=0.5, body=0.1),
    "2012": replace(DEXP, name="2012", epochs=1, batch=16, view=(0.9, 0.9), store=256),
}

if __name__ == "__main__":
    training.network.HIDDEN = 64
    RECIPES.update(SHORT)
    main()
