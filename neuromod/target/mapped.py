"""Whether `torch.vmap` can run batches of a network side by side: tried once, on the example."""

import warnings

import torch
from torch import Tensor

from neuromod.errors import RefusedError, refusing
from neuromod.seeds import preserved
from neuromod.target.skeleton import Skeleton
from neuromod.target.structure import tensors


def unmapped(skeleton: Skeleton, inputs: tuple[Tensor, ...]) -> str | None:
    """Why `torch.vmap` can't run a network (a recurrent layer, a number that is read, a buffer that is written); None where it can.

    Args:
        skeleton: the network.
        inputs: a batch.

    """
    try:
        with preserved(), warnings.catch_warnings(), refusing("torch.vmap can't run it", "run it in turn"):
            # A slow batching rule is one.
            warnings.simplefilter("ignore")
            run = torch.vmap(lambda *x: tuple(tensors(skeleton.put({}, x)).values()), randomness="different")
            run(*(torch.stack([x, x]) for x in inputs))
    except RefusedError as error:
        return str(error).removesuffix("; run it in turn")
    return None
