"""Where the crop lies in a photo, for networks whose own programs did not take the exact centre.

torchvision and Caffe resize the whole photo to whole pixels, and cut the crop out at a whole pixel.
The box of that crop, in the photo as it is stored, gives their pixels in a single resampling.
"""

from alexnet.spec import Preprocess

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

TRANSPOSED = (5, 6, 7, 8)
MIRRORED = (2, 3, 6, 7)
UPSIDE_DOWN = (3, 4, 7, 8)
"""The EXIF orientations that are turned upright by a transposition, then by left for right, then by
top for bottom."""


def crop_box(width: int, height: int, spec: Preprocess, orientation: int = 1) -> Box:
    """The box of the crop in fractions of a stored photo's sides, for any geometry but `centre`.

    `width` and `height` are in px, as stored; the crop is that of the upright photo.
    """
    if orientation in TRANSPOSED:
        width, height = height, width
    left, top, right, bottom = _upright_box(width, height, spec)
    if orientation in UPSIDE_DOWN:
        top, bottom = 1 - bottom, 1 - top
    if orientation in MIRRORED:
        left, right = 1 - right, 1 - left
    return (top, left, bottom, right) if orientation in TRANSPOSED else (left, top, right, bottom)


def _upright_box(width: int, height: int, spec: Preprocess) -> Box:
    crop, side = spec.crop, spec.resize
    if spec.geometry == "warp":
        # convert_imageset makes squares; data_transformer.cpp rounds the corner down
        corner = (side - crop) // 2
        return corner / side, corner / side, (corner + crop) / side, (corner + crop) / side
    # transforms.Resize rounds the longer side down, CenterCrop the corner as Python does
    longer = int(side * max(width, height) / min(width, height))
    across, down = (side, longer) if width <= height else (longer, side)
    left, top = round((across - crop) / 2), round((down - crop) / 2)
    return left / across, top / down, (left + crop) / across, (top + crop) / down
