"""What a confident network looks like: functions of logits that are small where the modulation fits the input."""

import torch
from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """``H = -sum_c p_c log p_c`` of the softmax: (..., C) to (...), in [0, log C]. -inf logits count as absent."""
    log_p = torch.log_softmax(logits, -1)
    return -(log_p.exp() * log_p.masked_fill(torch.isinf(log_p), 0.0)).sum(-1)
