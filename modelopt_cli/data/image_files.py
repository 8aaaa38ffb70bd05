"""Image files: listed by class, decoded in threads, guarded against bombs.

Only formats whose decoders run no other program are tried (EPS, for one, would start Ghostscript).
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from modelopt_cli.core.errors import InputError, RefusedError
from modelopt_cli.core.work import counted
from modelopt_cli.data.files import check_memory, read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"}
Mode = Literal["auto", "color", "gray"]
Size = tuple[int, int]  # height, width
_BATCH = 64  # files a task of a thread
_GRAY = {"1", "L", "LA", "La"}
_UNREADABLE = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}  # more than 8 bits: Pillow would clip them


@dataclass(frozen=True)
class ClassFiles:
    """Files and the class of each, train files first."""

    files: tuple[Path, ...]
    targets: np.ndarray  # (N,) int64
    classes: tuple[str, ...]
    test: int  # how many, at the end, come from test/


def list_classes(folder: Path, least: int = 2) -> ClassFiles:
    """A folder a class; or train/ and test/ with a folder a class in each. Sorted by name, hidden files left out.

    Raises InputError where there are fewer than `least` classes, or one without images.
    """
    names = {item.name for item in _folders(folder)}
    if "train" not in names:
        return _listed([folder], least)
    for other in sorted(names - {"train", "test"}):
        raise InputError(
            f"'{folder}' has train/ and also {other}/, which would not be used; "
            "call it test/, move its files into train/ (validation is drawn from there), or take it away"
        )
    return _listed([folder / name for name in ("train", "test") if name in names], least)


def list_images(folder: Path) -> list[Path]:
    """The image files in `folder` and below, sorted by path. Raises InputError where there are none."""
    return _images_in(folder)


def decode(
    files: Sequence[Path],
    size: Size | None,
    mode: Mode,
    most_pixels: int,
    *,
    over_white: bool = True,
    note: Callable[[str], None] | None = None,
) -> tuple[np.ndarray, str]:
    """(N, C, H, W) uint8 and a hash of all contents. C is 1 where `mode` is gray, or auto and all files are gray.

    `size` None: all images must be of one size. Transparent parts are laid over white (`over_white` False: their
    transparency is cut off, as earlier versions did), and `note` is told. Raises InputError naming the file that is
    corrupt or of another size, RefusedError for one with more than `most_pixels`.
    """
    channels = 1 if mode == "gray" else 3
    height, width = size or _decode_one(files[0], None, "color", most_pixels)[0].shape[:2]
    transparent: list[Path] = []
    check_memory(len(files) * channels * height * width, f"{len(files)} images of {width}x{height} pixels")
    images = np.empty((len(files), channels, height, width), np.uint8)

    def some(start: int) -> list[tuple[bytes, bool]]:
        return [one(number) for number in range(start, min(start + _BATCH, len(files)))]

    def one(number: int) -> tuple[bytes, bool]:
        pixels, gray, digest, alpha = _decode_one(files[number], size, mode, most_pixels, over_white)
        if alpha:
            transparent.append(files[number])
        if pixels.shape[:2] != images.shape[2:]:
            raise InputError(
                f"'{files[number]}' has {pixels.shape[1]}x{pixels.shape[0]} pixels, but '{files[0]}' has "
                f"{images.shape[3]}x{images.shape[2]}; set 'size: [height, width]' to resize all"
            )
        images[number] = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels
        return digest, gray

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        starts = range(0, len(files), _BATCH)
        decoded = counted(pool.map(some, starts), f"batches of {_BATCH} images read", len(starts))
        results = [result for batch in decoded for result in batch]
    total = hashlib.sha256(b"".join(digest for digest, _ in results)).hexdigest()
    if mode == "auto" and all(gray for _, gray in results):
        images = images[:, :1].copy()
    if transparent and note is not None:
        first = min(transparent)
        how = "laid over white" if over_white else "cut off, as when the model was trained"
        note(
            f"{len(transparent)} of {len(files)} images have transparent parts, which are {how}; the first is '{first}'"
        )
    return images, total


def _decode_one(
    path: Path, size: Size | None, mode: Mode, most_pixels: int, over_white: bool = True
) -> tuple[np.ndarray, bool, bytes, bool]:
    """((H, W) or (H, W, 3) uint8, whether the file is gray, its SHA-256, whether some of it is transparent)."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    content = read_bytes(path)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > most_pixels:
                raise RefusedError(_too_many(path, f"{image.width}x{image.height} pixels", most_pixels))
            if image.mode in _UNREADABLE:
                raise InputError(f"'{path}' has more than 8 bits a channel ({image.mode}); convert it, or use type npz")
            gray = image.mode in _GRAY
            ImageOps.exif_transpose(image, in_place=True)
            alpha = _is_transparent(image)
            shown = _over_white(image) if alpha and over_white else image
            pixels = _converted(shown, size, "L" if mode == "gray" else "RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise RefusedError(_too_many(path, "more pixels than Pillow opens", most_pixels)) from None
    except UnidentifiedImageError:
        raise InputError(f"'{path}' is no image ({', '.join(FORMATS)}); remove it or save it again") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError) as error:
        raise InputError(f"'{path}' is damaged: {error}; remove it or save it again") from None
    return pixels, gray, hashlib.sha256(content).digest(), alpha


def _is_transparent(image: Image) -> bool:
    """Whether some pixel lets through what is behind it."""
    if "A" not in image.getbands() and "a" not in image.getbands() and "transparency" not in image.info:
        return False
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return bool(alpha.min(initial=255) < 255)


def _over_white(image: Image) -> Image:
    import PIL.Image

    pixels = image.convert("RGBA")
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", pixels.size, "white"), pixels)


def _converted(image: Image, size: Size | None, mode: str) -> np.ndarray:
    from PIL.Image import Resampling

    image = image if image.mode == mode else image.convert(mode)
    if size is not None and (image.height, image.width) != size:
        image = image.resize((size[1], size[0]), Resampling.BILINEAR)
    return np.asarray(image)


def _too_many(path: Path, count: str, most: int) -> str:
    return f"'{path}' has {count}, more than max_pixels = {most:,}; a small file may unpack to many gigabytes"


def _listed(roots: list[Path], least: int) -> ClassFiles:
    by_root = [{item.name: _images_in(item) for item in _folders(root)} for root in roots]
    classes = tuple(sorted(by_root[0]))
    if len(classes) < least:
        have = f"one class folder, '{classes[0]}'" if classes else "no class folders"
        raise InputError(f"'{roots[0]}' has {have}; it needs {least} or more, each with the images of one class")
    for root, found_classes in zip(roots[1:], by_root[1:], strict=True):
        unknown = sorted(set(found_classes) - set(classes))
        if unknown:
            raise InputError(f"'{root / unknown[0]}' is a class that '{roots[0]}' does not have")
    files: list[Path] = []
    targets: list[int] = []
    test = 0
    for number, found_classes in enumerate(by_root):
        for name, images in sorted(found_classes.items()):
            files += images
            targets += [classes.index(name)] * len(images)
            test += len(images) * number
    return ClassFiles(tuple(files), np.array(targets, np.int64), classes, test)


def _folders(folder: Path) -> list[Path]:
    return [item for item in folder.iterdir() if item.is_dir() and not item.name.startswith((".", "__"))]


def _images_in(folder: Path) -> list[Path]:
    images = sorted(item for item in folder.rglob("*") if _is_image(item))
    if not images:
        raise InputError(f"'{folder}' holds no images ({', '.join(sorted(SUFFIXES))}); fill it or remove it")
    return images


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
