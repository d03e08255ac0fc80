"""AV1 (bitstream specification, 5.5): the largest frame that a stream may hold, by its header."""

from struct import error

_SEQUENCE_HEADER = 1
_MAX_UNITS = 64


class _Bits:
    def __init__(self, data: bytes, at: int):
        self._value = int.from_bytes(data[at : at + 64].ljust(64, b"\0"))
        self._left = 512

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise error("too few bits")
        return self._value >> self._left & (1 << count) - 1

    def skip_number(self) -> None:
        """uvlc of section 4.10.3."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros == 32:
                return
        self.take(zeros)


def largest_frame(data: bytes, at: int, end: int) -> int:
    """Pixels, of all headers between; 0 where there is none. Raises struct.error, IndexError."""
    most = 0
    for _ in range(_MAX_UNITS):
        if at >= end:
            return most
        head = data[at]
        at += 2 if head & 4 else 1
        length = end - at
        if head & 2:
            length, at = _leb128(data, at)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            most = max(most, _frame(_Bits(data, at)))
        at += length
    raise ValueError("the AVIF has too many parts in its picture; save it anew")


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        byte = data[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise error("no end of a number")


def _frame(bits: _Bits) -> int:
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced_still_picture_header
        bits.take(5)
    else:
        _skip_timing(bits)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(across) + 1) * (bits.take(down) + 1)


def _skip_timing(bits: _Bits) -> None:
    model, delay = 0, 0
    if bits.take(1):  # timing_info_present_flag
        bits.take(64)
        if bits.take(1):
            bits.skip_number()
        model = bits.take(1)
        if model:
            delay = bits.take(5) + 1
            bits.take(42)
    display = bits.take(1)
    for _ in range(bits.take(5) + 1):  # operating points
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if model and bits.take(1):
            bits.take(2 * delay + 1)
        if display and bits.take(1):
            bits.take(4)
