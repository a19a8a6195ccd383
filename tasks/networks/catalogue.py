"""Networks of torchvision and timm by their names."""

from collections.abc import Sequence

import torch
from torch import nn

from tasks.errors import UserError, nearest


def catalogue(shape: Sequence[int], outputs: int, *, name: str, classes: int = 1000) -> nn.Module:
    """A network of torchvision or timm, not pretrained: its weights come of a file (``target.weights``).

    Args:
        shape: of an image; the network is checked on it.
        outputs: of a task; heads of their own have them, whatever the network puts out.
        name: ``torchvision:resnet18``, ``timm:vit_tiny_patch16_224``.
        classes: that the network was trained on, as in the file of its weights.

    """
    library, _, model = name.partition(":")
    if library == "torchvision":
        from torchvision.models import get_model, list_models

        if model not in list_models():
            raise UserError(f"torchvision has no network {model!r}; nearest: {nearest(model, list_models())}")
        with torch.random.fork_rng(devices=[]):
            net: nn.Module = get_model(model, weights=None, num_classes=classes)
        return net
    if library == "timm":
        return _of_timm(model, classes)
    raise UserError(f"a network is named torchvision:NAME or timm:NAME; got {name!r}; or pass package.module:function")


def _of_timm(model: str, classes: int) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise UserError(f"timm:{model} needs the package timm; it is not installed; pip install timm") from error
    if model not in timm.list_models():
        raise UserError(f"timm has no network {model!r}; nearest: {nearest(model, timm.list_models())}")
    with torch.random.fork_rng(devices=[]):
        made: nn.Module = timm.create_model(model, pretrained=False, num_classes=classes)
    return made
