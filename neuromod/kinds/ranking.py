"""The k largest of many numbers, exactly: a selection in linear time, never a sort; the earlier of equals first."""

import numpy as np
import torch
from torch import Tensor

from neuromod.errors import RefusedError


def largest(values: Tensor, k: int) -> Tensor:
    """Which are the ``k`` largest, bool (n,), the earlier of equals first.

    Args:
        values: floats or integers (n,), none NaN (`refuse_nan`).
        k: from 0 to n.

    """
    if k == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    if values.device.type == "cpu":
        wide = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
        return torch.from_numpy(_largest(wide.detach().numpy(), k))
    level = values.topk(k, sorted=False).values.amin()
    above, equal = values > level, values == level
    return above | (equal & (equal.cumsum(0) <= k - above.sum()))


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    # numpy selects several times faster than torch on a CPU.
    level = np.partition(values, -k)[-k]
    chosen: np.ndarray = values >= level
    surplus = np.count_nonzero(chosen) - k
    if surplus:
        chosen[np.flatnonzero(values == level)[-surplus:]] = False
    return chosen


def refuse_nan(scores: Tensor) -> None:
    """RefusedError: scores that cannot be ranked. Where there are infinities, all have one sign."""
    # A sum is NaN where a number is; looking at each costs ten times as much.
    if bool(scores.sum().isnan()):
        raise RefusedError("scores must be finite to be ranked; got NaN; lower the learning rate or check the loss")
