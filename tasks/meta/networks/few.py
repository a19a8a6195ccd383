"""The four-block network of few-shot learning."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neuromod.meta import BatchNorm


class Few(nn.Module):
    """Four blocks of a 3x3 convolution, a norm, a pool by 2 and ReLU, then a linear layer (Vinyals et al. 2016; Finn et
    al. 2017).

    Images (B, C, 28, 28) to logits (B, outputs). ValueError for another norm.

    Args:
        shape: (C, H, W) of one image, sides of 16 pixels or more.
        outputs: logits; 0: features (B, D) without the linear layer.
        width: filters of each block.
        norm: ``batch`` takes the statistics of each batch, in training and in test: published numbers of MAML are
            transductive in this way. ``instance`` knows one image at a time.
        context: so many numbers scale and shift the third block before its ReLU (CAVIA, Zintgraf et al. 2019; gains are
            1 + what the context gives); 0: none.

    """

    def __init__(
        self, shape: Sequence[int], outputs: int, width: int = 16, norm: str = "batch", context: int = 0
    ) -> None:
        super().__init__()
        if norm not in ("batch", "instance"):
            raise ValueError(f"norm must be batch or instance; got {norm}; take one of these")
        blocks: list[nn.Module] = []
        for inputs in (shape[0], width, width, width):
            made = BatchNorm(width) if norm == "batch" else nn.InstanceNorm2d(width, affine=True)
            blocks.append(nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), made))
        self.blocks = nn.ModuleList(blocks)
        self.pool = nn.MaxPool2d(2)
        self.film = nn.Linear(context, 2 * width) if context else None
        side = shape[1] // 16
        self.head = nn.Linear(width * side**2, outputs) if outputs else nn.Identity()

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Images, and for CAVIA a context (n,) that all of them share."""
        for number, block in enumerate(self.blocks):
            x = self.pool(block(x))
            if number == 2 and self.film is not None and context is not None:
                gain, shift = self.film(context).chunk(2)
                x = (1 + gain)[:, None, None] * x + shift[:, None, None]
            x = torch.relu(x)
        logits: Tensor = self.head(x.flatten(1))
        return logits
