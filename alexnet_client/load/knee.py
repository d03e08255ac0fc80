"""The choice of rates for a server of unknown capacity."""

from collections.abc import Awaitable, Callable

FIRST_RATE = 25.0
GROWTH = 1.1  # past the knee, twice the rate adds less goodput than this
SHARES = (0.7, 0.85, 1.0, 1.2, 1.4)  # of the best goodput


async def measure_around_knee(goodput_at: Callable[[float], Awaitable[float]]) -> None:
    """Doubles the rate until goodput (1/s) stops growing, then measures around the best one."""
    rate, best = FIRST_RATE, 0.0
    while (goodput := await goodput_at(rate)) > GROWTH * best:
        rate, best = 2 * rate, goodput
    best = max(best, goodput)
    for share in SHARES if best else ():
        await goodput_at(float(f"{share * best:.2g}"))
