"""What is done to every image of a set before it becomes a stream."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from tasks.data.image_set import ImageSet, divided
from tasks.data.load import load
from tasks.data.pixels import halved, resized, rgb
from tasks.errors import UserError
from tasks.runs.bench import Bench

__all__ = ["found", "halved", "images", "prepared", "resized", "rgb", "unit_images"]


def images(bench: Bench) -> ImageSet | None:
    """The image set that the config names, prepared as it asks; None where it names none."""
    return bench.once(_images)


def _images(bench: Bench) -> ImageSet | None:
    options = bench.data
    if options["name"] is None:
        return None
    return found(options)


def unit_images(bench: Bench, rule: str) -> ImageSet:
    """The image set of the config, whose pixels are asked for from 0 to 1. UserError where there is none, or it is scaled otherwise.

    Args:
        bench: the run.
        rule: that asks for it, ``"a generator is trained on images"``, for the refusal.

    """
    found = images(bench)
    if found is None:
        raise UserError(f"{rule}; got data.name=null; pass data=mnist")
    if found.scaling != "unit":
        raise UserError(
            f"{rule}, and inputs are pixels from 0 to 1; got data.scaling={found.scaling}; pass data.scaling=unit"
        )
    return found


def found(options: Mapping[str, Any]) -> ImageSet:
    """The set that the ``data`` of a config names, prepared as it asks."""
    # Pictures of several sizes are one set at one side; what is halved first must have one size as it comes.
    side = None if options["halve"] else options["side"]
    return prepared(load(options["name"], root=options["root"], download=options["download"], side=side), options)


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
