"""ICC profiles of colours that a file states without one: by code points, or by its numbers.

A profile of a matrix and a curve (ICC.1:2022, 8.3.3), so that one library converts them all.
"""

from collections.abc import Sequence
from struct import pack

import numpy as np
from numpy.typing import NDArray

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green, blue: the order of a PNG's cHRM."""

_D65, _DCI = (0.3127, 0.3290), (0.314, 0.351)
SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_170M: Chromaticities = (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
_P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
# ITU-T H.273, tables 2 and 3. Whatever is not here is not spoken of by browsers either.
_PRIMARIES: dict[int, tuple[str, Chromaticities]] = {
    1: ("BT.709", SRGB),
    5: ("BT.601 (625)", (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: ("BT.601 (525)", _170M),
    7: ("SMPTE 240M", _170M),
    9: ("BT.2020", (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    11: ("DCI-P3", (*_DCI, *_P3)),
    12: ("Display P3", (*_D65, *_P3)),
}
Curve = tuple[float, ...]
"""The numbers g, a, b, c, d of a parametric curve (10.18, type 3), or g alone."""
SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# What is coded by the curve of a camera is shown by that of a television (BT.1886), as in Chromium:
# between them lies the dim room.
_TELEVISION: Curve = (2.4,)
_SRGB_CODE, _PQ, _HLG = 13, 16, 18
_CURVES: dict[int, Curve] = {
    1: _TELEVISION, 4: (2.2,), 5: (2.8,), 6: _TELEVISION, 8: (1.0,), _SRGB_CODE: SRGB_CURVE,
    14: _TELEVISION, 15: _TELEVISION,
}  # fmt: skip
_SAMPLES = 4096
_WHITE_NITS = 406
"""That become the white of a page: twice those of BT.2408, as Chromium leaves room for what is
brighter (within 5 levels of 255 of it, for greys of PQ and HLG)."""
_HLG_NITS, _HLG_SYSTEM = 1000, 1.2
"""The brightest of HLG on the display that BT.2100 takes for it, and the exponent of that one."""
_USUAL_GAMMA, _GAMMA_SLACK = 1 / 2.2, 0.05  # libpng's PNG_GAMMA_THRESHOLD
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])  # fmt: skip # noqa: E501


def of_codes(primaries: int, transfer: int) -> bytes | None:
    """Of two code points of H.273; None where they are none that browsers know."""
    if primaries not in _PRIMARIES or transfer not in {*_CURVES, _PQ, _HLG}:
        return None
    name, chromaticities = _PRIMARIES[primaries]
    if transfer in (_PQ, _HLG):
        name += " PQ" if transfer == _PQ else " HLG"
        return profile(name, chromaticities, _sampled(transfer))
    if primaries == 1:
        name = "sRGB" if transfer == _SRGB_CODE else name
    return profile(name, chromaticities, _parametric(_CURVES[transfer]))


def of_gamma(gamma: float | None, chromaticities: Chromaticities | None) -> bytes | None:
    """Of a PNG's gAMA (0.45455 for 2.2) and cHRM, by the rules of Chromium: cHRM counts only beside
    gAMA, and 2.2 alone stands for sRGB. None where it is sRGB, or these are no colours."""
    if gamma is None or not 0.05 <= gamma <= 20:
        return None
    if not chromaticities and abs(gamma / _USUAL_GAMMA - 1) < _GAMMA_SLACK:
        return None
    curve, name = (1 / gamma,), f"gamma {1 / gamma:.2f}"
    return profile(name, chromaticities or SRGB, _parametric(curve))


def profile(name: str, chromaticities: Chromaticities, curve: bytes) -> bytes | None:
    """None where the chromaticities span no colours."""
    columns = _columns(chromaticities)
    if columns is None:
        return None
    ascii_name = name.encode("ascii") + b"\0"
    about = b"desc" + pack(">II", 0, len(ascii_name)) + ascii_name + bytes(78)
    tags = [(b"desc", about), (b"wtpt", _xyz(_D50))]
    tags += [(kind, _xyz(columns[:, i])) for i, kind in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
    tags += [(kind, curve) for kind in (b"rTRC", b"gTRC", b"bTRC")]
    at = 128 + 4 + 12 * len(tags)
    table, body = pack(">I", len(tags)), b""
    for kind, content in tags:
        table += kind + pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = pack(">I4sI4s4s4s", at + len(body), b"", 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header = header.ljust(36, b"\0") + b"acsp" + bytes(28) + _xyz(_D50)[8:]
    return header.ljust(128, b"\0") + table + body


def _columns(chromaticities: Chromaticities) -> NDArray[np.float64] | None:
    """XYZ of red, green and blue, for eyes that are adapted to D50 (ICC.1:2022, annex E)."""
    pairs = np.array(chromaticities).reshape(4, 2)
    if not (pairs[:, 1] > 1e-4).all() or (pairs > 2).any():
        return None
    white, *colours = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in pairs)
    rgb = np.stack(colours, 1)
    if abs(np.linalg.det(rgb)) < 1e-6:
        return None
    seen, wanted = _BRADFORD @ white, _BRADFORD @ _D50
    if (np.abs(seen) < 1e-6).any():
        return None
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(wanted / seen) @ _BRADFORD
    columns = adapted @ rgb * np.linalg.solve(rgb, white)
    return columns if np.abs(columns).max() < 100 else None


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + pack(">I3i", 0, *(round(value * 65536) for value in values))


def _parametric(curve: Curve) -> bytes:
    kind = 0 if len(curve) == 1 else 3
    numbers: Sequence[int] = [round(value * 65536) for value in curve]
    return b"para" + pack(f">IHH{len(numbers)}i", 0, kind, 0, *numbers)


def _sampled(transfer: int) -> bytes:
    """Of pictures that are brighter than a page: what is above its white is white."""
    signal = np.linspace(0, 1, _SAMPLES)
    if transfer == _PQ:  # ITU-R BT.2100, table 4
        power = signal ** (1 / 78.84375)
        light = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        shown = light ** (1 / 0.1593017578125) * 10_000 / _WHITE_NITS
    else:  # table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        shown = light**_HLG_SYSTEM * _HLG_NITS / _WHITE_NITS
    values: bytes = np.rint(shown.clip(0, 1) * 65535).astype(">u2").tobytes()
    return b"curv" + pack(">II", 0, _SAMPLES) + values
