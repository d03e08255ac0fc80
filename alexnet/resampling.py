"""A box of a picture -> a square.

Pillow's resampling is scalar code, and took half as long as decoding the JPEG. fast_image_resize
does the same sums in AVX2, rounded at most one level apart in a photo, two in noise. Where it is
not installed all is Pillow's (docs/adr/0027-resampling-in-simd.md).
"""

from typing import TYPE_CHECKING

from PIL import Image

from alexnet.geometry import Box

if TYPE_CHECKING:
    import cykooz_resizer as simd
else:
    try:
        import cykooz_resizer as simd
    except ImportError:  # it has no wheel for every processor
        simd = None

_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TRIANGLE = simd and simd.ResizeAlg.convolution(simd.FilterType.bilinear)


def resample(picture: Image.Image, side: int, box: Box, interpolation: str) -> Image.Image:
    """The box, in px of the picture, as (side, side) in the picture's mode."""
    # Bilinear only: version 6.0 reads outside of a picture where a filter has zeros inside, as
    # cubics have, and clips their overshoots elsewhere. Alpha, which weighs colours, is Pillow's.
    if not simd or picture.mode != "RGB" or interpolation != "bilinear":
        return picture.resize((side, side), _PILLOW[interpolation], box=box)
    left, top, right, bottom = box
    square = Image.new("RGB", (side, side))
    # A resizer keeps its buffers, and is one thread's: a new one costs nothing beside them.
    simd.Resizer().resize_pil(
        picture,
        square,
        simd.ResizeOptions(_TRIANGLE, crop_box=simd.CropBox(left, top, right - left, bottom - top)),
    )
    return square
