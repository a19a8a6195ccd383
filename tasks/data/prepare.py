"""What is done to every image of a set before it becomes a stream."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tasks.data.image_set import ImageSet, divided
from tasks.data.load import load
from tasks.errors import UserError
from tasks.runs.bench import Bench


def images(bench: Bench) -> ImageSet | None:
    """The image set that the config names, prepared as it asks; None where it names none."""
    return bench.once(_images)


def _images(bench: Bench) -> ImageSet | None:
    options = bench.data
    if options["name"] is None:
        return None
    return prepared(load(options["name"], root=options["root"], download=options["download"]), options)


def prepared(image_set: ImageSet, options: Mapping[str, Any]) -> ImageSet:
    """The set as the ``data`` of a config asks: ``divide`` its one part, ``halve``, bring to a ``side``, ``turn``, make ``rgb``.

    In this order; ``turn`` counts quarters, ``side`` and ``rgb`` are pixels or null. ``scaling`` is left to the stream.
    """
    made = divided(image_set) if options["divide"] else image_set
    parts = [images for _, images, _ in made.parts()]
    if options["halve"]:
        parts = [halved(images) for images in parts]
    if options["side"] is not None:
        parts = [resized(images, options["side"]) for images in parts]
    if options["turn"]:
        parts = [torch.rot90(images, options["turn"], (2, 3)).contiguous() for images in parts]
    if options["rgb"] is not None:
        parts = [rgb(images, options["rgb"]) for images in parts]
    return replace(made, train_images=parts[0], test_images=parts[1], scaling=options["scaling"])


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
