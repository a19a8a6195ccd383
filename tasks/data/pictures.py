"""Picture files as they are looked at: eight bits a channel, opaque, of one frame; anything else is read right or refused."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.errors import FOREIGN, UserError

GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N")
COLOUR = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
ALPHA = ("LA", "PA", "RGBA")
FRAMES = ("GIF", "TIFF", "PNG", "WEBP")


def is_grey(file: Path) -> bool:
    """Whether a picture has no colour, from its header alone. UserError for a file that is no picture, or of a kind that
    has no one way to be seen.
    """
    with _opened(file) as image:
        if image.mode not in (*GREY, *COLOUR):
            rule = "a picture has 8 bits a channel, or is grey with 16"
            raise UserError(f"{rule}; {file} is of mode {image.mode}, whose white nobody says; convert it to 8 bits")
        if image.format in FRAMES and getattr(image, "n_frames", 1) > 1:
            raise UserError(f"a picture has one frame; {file} has {image.n_frames}; save one of them")  # type: ignore[attr-defined]
        return image.mode in GREY


def pixels_of(file: Path, grey: bool) -> np.ndarray:
    """A picture as uint8 (H, W), or (H, W, 3) where it is not ``grey``. UserError where a pixel lets the ground through."""
    with _opened(file) as image:
        if image.mode in ALPHA or "transparency" in image.info:
            lowest = np.asarray(image.convert("RGBA"))[..., 3].min(initial=255)
            if lowest < 255:
                rule = "a picture must be opaque, for nobody says what is behind it"
                raise UserError(f"{rule}; {file} has pixels of alpha {lowest}; flatten it onto a background first")
        if image.mode.startswith("I;16"):
            wide = np.asarray(image).astype(np.uint32)
            # 65535 is white: the rule of PNG for a sample of another depth, half up.
            level = ((wide * 255 + 32767) // 65535).astype(np.uint8)
            return level if grey else np.repeat(level[..., None], 3, 2)
        return np.asarray(image.convert("L" if grey else "RGB"))


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                yield image
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        rule = f"a picture has {Image.MAX_IMAGE_PIXELS:,} pixels at most"
        raise UserError(f"{rule}; {file} has more; make it smaller") from error
    except FOREIGN as error:  # Pillow's plug-ins raise what they like for a broken file
        raise UserError(f"every file in a class must be a whole image; {file} is not one; move it away") from error
