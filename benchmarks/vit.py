"""A small vision transformer with six linear layers a block: 3x32x32 in patches of 4, 64 tokens of width 128, 4 blocks."""

import torch
from torch import Tensor, nn

WIDTH, HEADS, BLOCKS, PATCH, IMAGE = 128, 4, 4, 4, 32
LAYERS = ("q", "k", "v", "o", "f1", "f2")


class Block(nn.Module):
    """Attention and a feed-forward net of four times the width, each behind a norm and around a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.f1, self.f2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) to the same."""
        h = self.norm1(x)
        q, k, v = (layer(h).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.o(mixed.transpose(1, 2).flatten(2))
        h = self.f2(nn.functional.gelu(self.f1(self.norm2(x))))
        out: Tensor = x + h
        return out


class Vit(nn.Module):
    """Patches to tokens, blocks, the mean token, a classifier."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.position = nn.Parameter(torch.randn(1, (IMAGE // PATCH) ** 2, WIDTH) * 0.02)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) to (B, classes)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        logits: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return logits


def network() -> Vit:
    """The same random network every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Vit().eval()
