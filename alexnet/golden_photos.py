"""Golden photos: small made ones of every kind, and the crops that were made of them.

A decoder that comes with another Pillow must not change pixels unnoticed: the network was measured
with these. `python -m alexnet.golden_photos` records them anew.
"""

import io
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet import icc
from alexnet.decoders import missing
from alexnet.formats import format_of
from alexnet.preprocess import InvalidImage, preprocess
from alexnet.samples import KINDS, photo
from alexnet.spec import Preprocess

RECORD = Path(__file__).with_name("golden_photos.zip")
SPEC = Preprocess(36, 32)
TOLERANCE = 1.0
"""The mean difference, in levels of 255. Decoders of one version differ by 0; the same with other
rounding (of a processor without its instructions) by a few tenths."""
_MEGAPIXELS = 0.007
_VERSIONS = "versions.txt"
_WHEN_MADE = (2026, 1, 1, 0, 0, 0)


class PixelsChanged(ValueError):
    """The decoders that are installed read photos differently than those that were measured."""


def check() -> None:
    """Raises PixelsChanged. A format without a decoder here is left out."""
    for name, difference in differences().items():
        if not difference <= TOLERANCE:
            recorded = " ".join(_recorded_versions())
            raise PixelsChanged(
                f"a golden photo ({name}) is read differently than when models were measured: the "
                f"mean difference is {difference:.1f} levels of 255, and may be {TOLERANCE:.1f}. "
                f"Installed: {' '.join(versions())}. Measured with: {recorded}. "
                "Install the latter (pip install --constraint constraints.txt)"
            )


def differences() -> dict[str, float]:
    """By the photo's name; infinite where it cannot be read at all."""
    found = {}
    with zipfile.ZipFile(RECORD) as record:
        for name in (name for name in record.namelist() if name.endswith(".photo")):
            data = record.read(name)
            form = format_of(data)
            if form and missing(form.name):
                continue
            name = name.removesuffix(".photo")
            expected = np.frombuffer(record.read(f"{name}.crop"), np.uint8)
            found[name] = _difference(data, expected)
    return found


def versions() -> list[str]:
    """Of what decodes: an equal list gives equal pixels, to the bit, on one kind of processor."""
    found = []
    for package in ("pillow", "cykooz-resizer", "pi-heif"):
        try:
            found.append(f"{package}=={version(package)}")
        except PackageNotFoundError:
            continue
    return found


def _recorded_versions() -> list[str]:
    with zipfile.ZipFile(RECORD) as record:
        return record.read(_VERSIONS).decode().split()


def _difference(data: bytes, expected: NDArray[np.uint8]) -> float:
    try:
        crop = preprocess(data, SPEC).crop
    except InvalidImage:
        return float("inf")
    return float(np.abs(crop.astype(int).ravel() - expected).mean())


def _made() -> dict[str, bytes]:
    photos = {kind: photo(kind, _MEGAPIXELS) for kind in KINDS}
    photos["JPEG at a half"] = photo("JPEG", 0.03)
    image = Image.open(io.BytesIO(photos["PNG"]))
    for name, converted, options in (
        ("JPEG in Display P3", image, {"icc_profile": icc.of_codes(12, 13)}),
        ("JPEG of four inks", image.convert("CMYK"), {}),
        ("JPEG in grey", image.convert("L"), {}),
    ):
        buffer = io.BytesIO()
        converted.save(buffer, "JPEG", **options)
        photos[name] = buffer.getvalue()
    return photos


def main() -> None:
    """Nothing here makes a HEIC: the one of the record is kept."""
    photos = _made()
    with zipfile.ZipFile(RECORD) as record:
        photos["HEIF"] = record.read("HEIF.photo")
    files = {_VERSIONS: "\n".join(versions()).encode()}
    for name, data in photos.items():
        files |= {f"{name}.photo": data, f"{name}.crop": preprocess(data, SPEC).crop.tobytes()}
    with zipfile.ZipFile(RECORD, "w", zipfile.ZIP_DEFLATED) as record:
        for file, content in files.items():
            record.writestr(zipfile.ZipInfo(file, _WHEN_MADE), content, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
