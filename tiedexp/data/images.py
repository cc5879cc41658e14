"""Opens, checks and resizes single images."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tiedexp.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

THREADS = 8  # Pillow releases Python's lock while it decodes

_GREY_MODES = ("1", "L", "LA")
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap rows and columns


def read_image_header(path: Path) -> tuple[tuple[int, int], int]:
    """The (rows, cols) and the channels (1 for grey, 3 for colour) of an image file, without decoding it.

    Raises:
        DatasetError: the file is not a readable image, or has more than 8 bits per channel.
    """
    with _open_image(path, str(path)) as image:
        if image.mode in _DEEP_MODES:
            raise DatasetError(f"{path} has more than 8 bits per channel (mode {image.mode}); save it with 8")
        cols, rows = image.size
        try:
            sideways = _may_be_rotated(image) and image.getexif().get(_ORIENTATION) in _SIDEWAYS
        except _image_errors() as error:
            raise DatasetError(f"{path} is damaged: {error}") from error
        return (cols, rows) if sideways else (rows, cols), 1 if image.mode in _GREY_MODES else 3


def load_image(path: Path, channels: int, image_size: int | None) -> npt.NDArray[np.uint8]:
    """An image file as an upright array (rows, cols, channels), resized to `image_size` if that is given.

    Raises:
        DatasetError: the file is damaged.
    """
    return _decode(path, str(path), channels, image_size)


def fit_encoded(contents: npt.NDArray[Any], channels: int, image_size: int) -> npt.NDArray[np.uint8]:
    """Decode images, (n,) of bytes, and resize them to (n, image_size, image_size, channels).

    Raises:
        DatasetError: an image is damaged.
    """

    def decode(content: bytes) -> npt.NDArray[np.uint8]:
        return _decode(io.BytesIO(content), "an image", channels, image_size)

    with ThreadPoolExecutor(THREADS) as pool:
        return np.stack(list(pool.map(decode, contents)))


def fit_images(images: npt.NDArray[np.uint8], image_size: int) -> npt.NDArray[np.uint8]:
    """Crop images (n, rows, cols, channels) to their central square and resize it to `image_size`.

    Raises:
        DatasetError: the images are neither grey nor in colour.
    """
    from PIL import Image

    channels = images.shape[3]
    if images.shape[1:3] == (image_size, image_size):
        return images
    if channels not in _MODES:
        raise DatasetError(f"image_size needs images with 1, 3 or 4 channels, but these have {channels}")
    fitted = np.empty((len(images), image_size, image_size, channels), dtype=np.uint8)
    for number, image in enumerate(images[..., 0] if channels == 1 else images):
        fitted[number] = _to_array(_fit(Image.fromarray(image), image_size), channels)
    return fitted


def convert_channels(images: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.uint8]:
    """Images (n, rows, cols, 1, 3 or 4 channels) with another number of channels: grey, colour, or colour with alpha.

    Raises:
        DatasetError: there is no such kind of image.
    """
    from PIL import Image

    if images.shape[3] == channels:
        return images
    if channels not in _MODES:
        raise DatasetError(f"images with {images.shape[3]} channels cannot be converted to {channels} channels")
    pictures = (Image.fromarray(image[..., 0] if image.shape[2] == 1 else image) for image in images)
    return np.stack([_to_array(picture.convert(_MODES[channels]), channels) for picture in pictures])


def _decode(source: Path | io.BytesIO, name: str, channels: int, image_size: int | None) -> npt.NDArray[np.uint8]:
    from PIL import ImageOps

    with _open_image(source, name) as opened:
        try:
            upright = ImageOps.exif_transpose(opened) if _may_be_rotated(opened) else opened
            image = upright.convert(_MODES[channels])
        except _image_errors() as error:
            raise DatasetError(f"{name} is damaged: {error}") from error
    return _to_array(image if image_size is None else _fit(image, image_size), channels)


def _may_be_rotated(image: Image) -> bool:
    """Whether to apply the orientation tag; not for PNG, which cameras do not write and which must be decoded first."""
    return image.format != "PNG"


def _fit(image: Image, image_size: int) -> Image:
    from PIL import ImageOps
    from PIL.Image import Resampling

    return ImageOps.fit(image, (image_size, image_size), method=Resampling.BILINEAR)


def _to_array(image: Image, channels: int) -> npt.NDArray[np.uint8]:
    return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, channels)


def _open_image(source: Path | io.BytesIO, name: str) -> Image:
    from PIL import Image

    try:
        return Image.open(source)
    except _image_errors() as error:
        raise DatasetError(f"{name} is not a readable image: {error}") from error


def _image_errors() -> tuple[type[Exception], ...]:
    """The exceptions that Pillow raises for truncated or invalid files."""
    from PIL import Image

    return OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError
