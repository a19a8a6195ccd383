"""Scale and shift of every kernel of a weight: the modified filter modulation of GAN memory."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromod.errors import RefusedError
from neuromod.kinds.base import Edits, Kind, Now, Raw
from neuromod.target.sites import Site


@dataclass(frozen=True)
class AdaFM(Kind):
    """``W' = gamma * (W - mean) / std + beta``: mean and unbiased standard deviation of each kernel, of a dense weight each row.

    mAdaFM (Cong et al. 2020, eq. 6). Raw parts: ``gamma`` and ``beta``, (out, in) of a convolution (in the order of its weight),
    (out,) of a dense layer or a 1 x 1 convolution, by rows. They start at std and mean, the identity. A bias, chosen by its name in
    ``target.weights("*", "0.bias")``, has ``beta`` (out,) alone, ``b' = b + beta``, and starts at 0.
    """

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        if len(site.shape) == 1:
            return {"beta": site.shape}
        if site.fan_in == 1:
            raise RefusedError(
                f"AdaFM scales kernels or rows of two numbers or more; got {site.name!r} of shape {site.shape}; exclude it"
            )
        lead = site.shape[: _leading(site.shape)]
        return {"gamma": lead, "beta": lead}

    def start(self, site: Site, now: Now, rng: torch.Generator) -> dict[str, Tensor]:
        return self.identity(site, now)

    def identity(self, site: Site, now: Now) -> dict[str, Tensor]:
        """``gamma = std``, ``beta = mean``."""
        weight = now[site.name].detach()
        if len(site.shape) == 1:
            return {"beta": torch.zeros_like(weight)}
        std, mean = _std_mean(weight)
        lead = self.shapes(site)["beta"]
        return {"gamma": std.reshape(lead), "beta": mean.reshape(lead)}

    def edits(self, site: Site, raw: Raw, now: Now) -> Edits:
        weight = now[site.name]
        if len(site.shape) == 1:
            return {site.name: weight + raw["beta"]}
        std, mean = _std_mean(weight)
        gamma, beta = raw["gamma"].reshape(std.shape), raw["beta"].reshape(std.shape)
        # A kernel of equal numbers has no shape to scale: it is its mean, whatever gamma.
        std = torch.where(std > 0, std, 1)
        # The equation, written so that at its start not a bit moves.
        return {site.name: weight + (gamma / std - 1) * (weight - mean) + (beta - mean)}


def _leading(shape: tuple[int, ...]) -> int:
    """Axes in front of a kernel: of a dense weight, and of a 1 x 1 convolution, which is one, in front of a row."""
    return 2 if math.prod(shape[2:]) > 1 else 1


def _std_mean(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Unbiased standard deviation and mean of each kernel or row, over axes that are kept."""
    axes = tuple(range(_leading(tuple(weight.shape)), weight.ndim))
    std, mean = torch.std_mean(weight, dim=axes, keepdim=True)
    return std, mean
