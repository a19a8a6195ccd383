"""Images of one set as tensors: halved, resized, made RGB, as floats."""

import torch
from torch import Tensor, nn

from tasks.errors import UserError


def unit(images: Tensor) -> Tensor:
    """Images uint8 (N, C, H, W) to float32 from 0 to 1."""
    return images.float() / 255


def halved(images: Tensor) -> Tensor:
    """Images uint8 (N, C, H, W) to (N, C, H / 2, W / 2): the mean of each square of 2 x 2 pixels, a half rounded up."""
    height, width = images.shape[2:]
    if height % 2 or width % 2:
        raise UserError(f"halve needs images of even sides; got {height} x {width}; leave halve at false")
    # Integers: a float mean may round differently on another device.
    wide = images.to(torch.int16)
    rows = wide[:, :, ::2] + wide[:, :, 1::2]
    return ((rows[..., ::2] + rows[..., 1::2] + 2) // 4).to(torch.uint8)


def resized(images: Tensor, side: int, batch: int = 1000) -> Tensor:
    """Images uint8 (N, C, H, W) to (N, C, side, side), bilinear, each pixel a mean over what it covers; rounded.

    Args:
        images: of any size.
        side: pixels, at least 1.
        batch: images that are converted at once, so that memory stays small.

    """
    if side < 1:
        raise UserError(f"data.side counts pixels, at least 1; got {side}; correct it")
    # Float: the integer kernels round twice.
    parts = (
        nn.functional.interpolate(part.float(), (side, side), mode="bilinear", antialias=True)
        for part in images.split(batch)
    )
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])


def rgb(images: Tensor, side: int) -> Tensor:
    """Images uint8 (N, 1 or 3, H, W) to (N, 3, side, side): grey ones repeated, smaller ones padded with zeros evenly."""
    channels, height, width = images.shape[1:]
    if channels not in (1, 3) or max(height, width) > side:
        got = f"{channels} channels of {height} x {width}"
        raise UserError(f"data.rgb={side} makes RGB images of that side; got {got}; take a larger side")
    down, right = side - height, side - width
    pads = (right // 2, right - right // 2, down // 2, down - down // 2)
    return nn.functional.pad(images.expand(-1, 3, -1, -1), pads)
