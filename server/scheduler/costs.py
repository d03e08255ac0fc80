"""What a batch and a photo cost on this machine: measured at start, corrected by what is seen.

The figures of the start are those of a quiet machine. Under load decoders and the engine share the
cores, so each figure is multiplied by how much slower things went lately.
"""

import json
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from alexnet.formats import FORMATS
from alexnet.header import Header
from alexnet.samples import KINDS, photo
from alexnet.spec import batch_sizes

FORMAT = 1
ROUNDS = 5
MAX_BATCH_SIZE, MAX_MS = 1 << 16, 1e9

# Megapixels: below, at and above where libjpeg begins to decode at a fraction. Other decoders are
# slower, and have no such bend.
JPEG_SIZES, OTHER_SIZES = (0.2, 1.0, 4.0), (0.1, 0.5)
TYPICAL = Header("JPEG", 500, 375)
SCANS = 10
"""Of a progressive JPEG, as it is made to be timed, too."""

TIMES_JPEG = {
    "progressive JPEG": 4, "PNG": 15, "WEBP": 11, "GIF": 5, "BMP": 3, "TIFF": 3, "AVIF": 15,
    "HEIF": 15,
}  # fmt: skip
"""What a megapixel of a kind that was not measured takes, in JPEG's: as on a machine of two cores.
At a price that is too low, costly photos would shut the others out."""

WEIGHT = 0.1
"""Of the latest observation, in the mean of those before it."""
HALF_LIFE_S = 20.0

T = TypeVar("T")
Clock = Callable[[], float]


class CostModel:
    """Seconds for a batch, and for a photo on one thread. Every method takes about a microsecond
    and may be called from any thread."""

    def __init__(
        self,
        infer_ms: Mapping[int, float],
        decode_ms: Mapping[str, tuple[float, float]],
        clock: Clock = time.monotonic,
    ):
        """By batch size from 1 to the largest; and by Header.kind: the milliseconds of any photo,
        and of each megapixel. Raises ValueError for figures that are no costs."""
        _check(infer_ms, decode_ms)
        self._infer_ms, self._decode_ms = dict(infer_ms), dict(decode_ms)
        base_ms, slope_ms = decode_ms["JPEG"]
        unknown = {kind: (base_ms, times * slope_ms) for kind, times in TIMES_JPEG.items()}
        self._lines = unknown | self._decode_ms
        self.max_batch_size = max(infer_ms)
        costs = np.maximum.accumulate([ms / 1000 for ms in infer_ms.values()])
        numbers = np.arange(1, self.max_batch_size + 1)
        seconds = np.interp(numbers, list(infer_ms), costs)
        self._batch_s = [0.0, *seconds.tolist()]
        each = seconds / numbers
        self.efficient_size = int(np.argmax(each <= 1.05 * each.min())) + 1
        """The smallest batch in which a photo costs at most a twentieth more than in the best."""
        self.bearable_size = int(np.argmax(each <= 1.25 * each.min())) + 1
        """The same, and at most a quarter."""
        base, _ = self._decode_ms["JPEG"]
        self.least_s = (base + infer_ms[1]) / 1000
        """The smallest photo alone on a quiet machine takes so long."""
        self._infer = _Slowness(clock)
        self._decode = _Slowness(clock)  # of whatever kind
        self._kinds = {kind: _Slowness(clock) for kind in self._lines}

    @classmethod
    def measure(
        cls,
        run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        crops: NDArray[np.uint8],
        max_batch_size: int,
        decode: Callable[[bytes], object],
        budget_s: float = 5.0,
        clock: Clock = time.perf_counter,
    ) -> "CostModel":
        """Runs a warm engine on powers of two and the largest batch, made of `crops`
        (n, crop, crop, 3), and decodes made photos, within the budget, which at most the run under
        way exceeds: half of it for decoding. Larger batches that did not fit in are taken to cost
        in proportion, and kinds of photos so many times as much as a JPEG."""
        end = clock() + budget_s
        decode_ms: dict[str, tuple[float, float]] = {}
        for kind in KINDS:
            if decode_ms and clock() > end - budget_s / 2:
                break
            sizes = JPEG_SIZES if "JPEG" in kind else OTHER_SIZES
            photos = [photo(kind, size) for size in sizes]
            times = _best_times(decode, sizes, photos, end - budget_s / 2, clock)
            decode_ms[kind] = _line(sizes[: len(times)], times)
        decode_ms |= {k: decode_ms[like] for k, like in _COST_LIKE.items() if like in decode_ms}
        numbers = batch_sizes(max_batch_size)
        largest = np.resize(crops, (max_batch_size, *crops.shape[1:]))
        times = _best_times(run, numbers, [largest[:n] for n in numbers], end, clock)
        times += [times[-1] / numbers[len(times) - 1] * n for n in numbers[len(times) :]]
        infer_ms = {n: max(_ms(s), 1e-4) for n, s in zip(numbers, times, strict=True)}
        return cls(infer_ms, decode_ms, clock)

    def infer_s(self, n: int) -> float:
        """A batch of `n`, now; above the largest, in proportion: several batches."""
        return self._calibrated_s(n) * self._infer.now()

    def largest(self, n: int, seconds: float) -> int:
        """The largest batch of at most `n` that takes no more than `seconds`; 0 if none does."""
        slow = self._infer.now()
        most = min(n, self.max_batch_size)
        return bisect_right(self._batch_s, seconds / slow * (1 + 1e-9), 1, most + 1) - 1

    def decode_s(self, header: Header | None) -> float:
        """One photo on one thread, now. Without a header, as long as a small photo: no
        request is refused for a size that is not known yet."""
        kind, calibrated_s = self._photo(header or TYPICAL)
        return calibrated_s * self._kinds[kind].now()

    def quiet_s(self, header: Header | None) -> float:
        """`decode_s`, while nothing else runs."""
        return self._photo(header or TYPICAL)[1]

    def ran(self, n: int, seconds: float) -> None:
        """A batch of `n` took so long."""
        self._infer.saw(seconds / self._calibrated_s(n))

    def decoded(self, header: Header | None, seconds: float) -> None:
        """A photo took a thread so long."""
        if header:
            kind, calibrated_s = self._photo(header)
            ratio = seconds / max(calibrated_s, 1e-6)
            self._kinds[kind].saw(ratio)
            self._decode.saw(ratio)

    @property
    def drift(self) -> dict[str, float]:
        """How many times slower than calibrated each stage is now."""
        return {"infer": self._infer.now(), "decode": self._decode.now()}

    def to_json(self) -> str:
        """What was measured at start, and how many times slower each is now."""
        decode = {
            kind: {"base": base, "per_megapixel": per_megapixel}
            for kind, (base, per_megapixel) in self._decode_ms.items()
        }
        now = {
            "infer": round(self._infer.now(), 3),
            "decode": {kind: round(self._kinds[kind].now(), 3) for kind in self._decode_ms},
        }
        infer = {str(n): ms for n, ms in self._infer_ms.items()}
        content = {"format": FORMAT, "infer_ms": infer, "decode_ms": decode, "now": now}
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "CostModel":
        """As it was measured; what was seen later is not taken over. Raises ValueError."""
        try:
            data = json.loads(text)
            if data["format"] != FORMAT or data.keys() != _KEYS:
                raise ValueError(f"it has format {data['format']} with {', '.join(data)}")
            infer_ms = {int(n): ms for n, ms in data["infer_ms"].items()}
            lines = data["decode_ms"].items()
            if any(line.keys() != {"base", "per_megapixel"} for _, line in lines):
                raise ValueError("decode_ms needs base and per_megapixel, and nothing else")
            return cls(infer_ms, {k: (v["base"], v["per_megapixel"]) for k, v in lines})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a cost model: {error}") from None

    def _calibrated_s(self, n: int) -> float:
        most = self.max_batch_size
        return self._batch_s[n] if n <= most else self._batch_s[most] * n / most

    def _photo(self, header: Header) -> tuple[str, float]:
        """The kind that it counts as, and the seconds of a quiet machine."""
        kind = header.kind
        base, per_megapixel = self._lines[kind]
        megapixels = header.width * header.height / 1e6 * max(1, header.scans / SCANS)
        return kind, (base + per_megapixel * megapixels) / 1000


_KEYS = {"format", "infer_ms", "decode_ms", "now"}
_COST_LIKE = {form.name: form.costs_like for form in FORMATS.values() if form.costs_like}


class _Slowness:
    """How many times slower than calibrated: an exponentially weighted mean.

    An observation counts as at most twice, and at least half, of what was known, so that an
    outlier does no harm. In silence the mean returns to 1: a server that refuses all work because
    it would take too long must not keep believing so for ever.
    """

    def __init__(self, clock: Clock):
        self._clock = clock
        self._seen = 1.0, clock()  # the mean, and when: one attribute, so threads need no lock

    def now(self) -> float:
        mean, at = self._seen
        return float(1 + (mean - 1) * 0.5 ** ((self._clock() - at) / HALF_LIFE_S))

    def saw(self, ratio: float) -> None:
        known = self.now()
        ratio = min(max(ratio, known / 2, 1 / 20), known * 2, 20)
        self._seen = known + WEIGHT * (ratio - known), self._clock()


def _best_times(
    work: Callable[[T], object], sizes: Sequence[float], items: Sequence[T], end: float,
    clock: Clock,
) -> list[float]:  # fmt: skip
    """Seconds for each item, smallest first; at least one, and none that would pass `end`."""
    best: list[float] = []
    for i in [*range(len(items))] * ROUNDS:
        if best:
            first_time = i == len(best)
            expected = best[-1] / sizes[i - 1] * sizes[i] if first_time else best[i]
            if clock() + expected > end:
                break
        start = clock()
        work(items[i])
        took = clock() - start
        best[i : i + 1] = [min([took, *best[i : i + 1]])]
    return best


def _line(megapixels: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Milliseconds of any photo and of each megapixel, neither below 0: the least squares of the
    relative errors, so that the small photos are as right as the large ones."""
    times = np.maximum(seconds, 1e-7)
    columns = np.stack([1 / times, megapixels / times], axis=1)
    base, slope = np.linalg.lstsq(columns, np.ones(len(times)))[0].tolist()
    only_base, only_slope = (columns.sum(0) / (columns**2).sum(0)).tolist()
    if base < 0 or len(times) == 1:
        base, slope = 0.0, only_slope
    elif slope < 0:
        base, slope = only_base, 0.0
    return _ms(base), _ms(slope)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 4)


def _check(infer_ms: Mapping[int, Any], decode_ms: Mapping[str, Sequence[Any]]) -> None:
    sizes = list(infer_ms)
    if not sizes or sizes[0] != 1 or sizes[-1] > MAX_BATCH_SIZE:
        raise ValueError(f"batch sizes must go from 1 to at most {MAX_BATCH_SIZE}")
    if any(a >= b for a, b in pairwise(sizes)):
        raise ValueError(f"batch sizes must rise, not {sizes}")
    kinds = KINDS.keys() | _COST_LIKE.keys()
    if "JPEG" not in decode_ms or not decode_ms.keys() <= kinds:
        raise ValueError(f"kinds of photos must be JPEG and any of {', '.join(sorted(kinds))}")
    for value in (*infer_ms.values(), *(v for line in decode_ms.values() for v in line)):
        if type(value) not in (int, float) or not 0 <= value < MAX_MS:
            raise ValueError(f"{value!r} is no number of milliseconds")
    if not min(infer_ms.values()) > 0:
        raise ValueError("a batch cannot cost nothing")
