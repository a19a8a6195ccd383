"""Whether `torch.vmap` can run a network sample by sample: tried once, on the example."""

import warnings

import torch
from torch import Tensor

from neuromod.errors import RefusedError, refusing
from neuromod.seeds import preserved
from neuromod.target.samples import Axes
from neuromod.target.skeleton import Skeleton
from neuromod.target.structure import tensors


def unmapped(skeleton: Skeleton, inputs: tuple[Tensor, ...], axes: Axes) -> str | None:
    """Why `torch.vmap` can't run a network (a recurrent layer, a number that is read, a buffer that is written); None where it can.

    Args:
        skeleton: the network.
        inputs: a batch.
        axes: the batch axis of each input.

    """

    def sample(*x: Tensor) -> tuple[Tensor, ...]:
        single = (t if axis is None else t.unsqueeze(axis) for t, axis in zip(x, axes, strict=True))
        return tuple(tensors(skeleton.put({}, tuple(single))).values())

    try:
        with preserved(), warnings.catch_warnings(), refusing("torch.vmap can't run it", "run it in turn"):
            # A slow batching rule is one.
            warnings.simplefilter("ignore")
            torch.vmap(sample, in_dims=axes, randomness="different")(*inputs)
    except RefusedError as error:
        return str(error).removesuffix("; run it in turn")
    return None
