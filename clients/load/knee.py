"""Rates worth measuring, when nobody knows yet what the server can do."""

from collections.abc import Awaitable, Callable

FIRST_RATE = 25.0
GROWTH = 1.1  # past the knee, twice the load gives hardly more goodput
AROUND = (0.7, 0.85, 1.0, 1.2, 1.4)  # of the best goodput


async def around_the_knee(goodput_at: Callable[[float], Awaitable[float]]) -> None:
    """Measures at twice the rate until goodput (1/s) stops growing, then around its best."""
    rate, best = FIRST_RATE, 0.0
    while (goodput := await goodput_at(rate)) > GROWTH * best:
        rate, best = 2 * rate, goodput
    best = max(best, goodput)
    for share in AROUND if best else ():
        await goodput_at(float(f"{share * best:.2g}"))
