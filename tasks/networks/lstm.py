"""A sequence classifier that is time-first inside: the batch is axis 1 of everything between its ends."""

from collections.abc import Sequence

from torch import Tensor, nn


class Lstm(nn.Module):
    """Sequences (B, T, D) to logits (B, outputs): LSTM over (T, B, D), LayerNorm, the last state, a linear layer.

    Args:
        hidden: units of the state.

    """

    def __init__(self, shape: Sequence[int], outputs: int, hidden: int = 64) -> None:
        super().__init__()
        self.lstm = nn.LSTM(shape[-1], hidden)
        self.norm = nn.LayerNorm(hidden)
        self.fc = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, outputs)."""
        states, _ = self.lstm(x.transpose(0, 1))
        logits: Tensor = self.fc(self.norm(states)[-1])
        return logits
