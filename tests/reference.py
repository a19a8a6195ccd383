"""The slow, obvious truth: each equation as its paper prints it, one row and one sample at a time.

W is the frozen weight of a site; scores, codes and factors are the raw numbers of ONE row, without a leading axis.
Any float dtype works; everything is differentiable by autograd, with the surrogate named in the docstring where the
equation itself has no useful derivative.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

Tap = tuple[Tensor | None, Tensor | None, int]  # gain (C,) or mix (C, C), bias (C,), channel axis of the output
Tensors = Mapping[str, Tensor]
Row = tuple[Tensors, Mapping[str, Sequence[Tap]], Tensors]  # weights, taps, buffers of one sample


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """`hard` in the forward pass, the derivative of `soft` in the backward pass."""
    # The parentheses matter: hard + soft - soft rounds, and a mask would no longer be exactly 0 or 1.
    return hard + (soft - soft.detach())


# Masks ----------------------------------------------------------------------------------------------------------------


def topk_mask(score: Tensor, density: float) -> Tensor:
    """1 on the round(density * n) entries of largest |score|; equal scores: the earlier flat index wins."""
    magnitude = score.detach().abs().flatten().tolist()
    # Python's sort is stable, so entries of equal magnitude stay in the order of their positions.
    ranked = sorted(range(len(magnitude)), key=lambda i: -magnitude[i])
    mask = [0.0] * len(magnitude)
    for i in ranked[: round(density * len(magnitude))]:
        mask[i] = 1.0
    return torch.tensor(mask, dtype=score.dtype, device=score.device).reshape(score.shape)


def topk(W: Tensor, score: Tensor, density: float) -> Tensor:
    """W * topk(|s|): edge-popup (Ramanujan et al. 2020); dL/ds = dL/dW_eff * W * sign(s) everywhere."""
    return W * straight_through(topk_mask(score, density), score.abs())


def threshold(W: Tensor, score: Tensor, at: float, strict: bool = False) -> Tensor:
    """W * 1[s >= at] (SupSup, at=0), strict: W * 1[s > at] (Piggyback, at=5e-3); dL/ds = dL/dW_eff * W."""
    kept = score > at if strict else score >= at
    return W * straight_through(kept.to(score.dtype), score)


def bernoulli(W: Tensor, score: Tensor, noise: Tensor | None = None, rescale: bool = False) -> Tensor:
    """W * M, M ~ Bernoulli(sigmoid(s)) (Zhou et al. 2019); dL/ds = dL/dM * p (1 - p).

    M = 1[noise < p] where noise, uniform in [0, 1), is given (training), else 1[p >= 1/2] (evaluation). `rescale`
    multiplies by n / sum(M), and the gradient flows through the sum too; a mask without a single 1 gives NaN.
    """
    p = torch.sigmoid(score)
    kept = p >= 0.5 if noise is None else noise < p
    M = straight_through(kept.to(score.dtype), p)
    return W * M * (M.numel() / M.sum()) if rescale else W * M


# Outputs --------------------------------------------------------------------------------------------------------------


def signed(W: Tensor, score: Tensor, least: float) -> Tensor:
    """W times the sign of the score, or 0 where |score| < least; dL/ds = dL/dM (Koster et al. 2022)."""
    hard = torch.where(score >= least, 1.0, torch.where(score <= -least, -1.0, 0.0)).to(score)
    return W * straight_through(hard, score)


def coats(W: Tensor, score: Tensor, densities: Sequence[float]) -> Tensor:
    """W times the number of nested masks that a weight is in; the gradient is that of one (Okoshi et al. 2022)."""
    return W * straight_through(sum(topk_mask(score, d) for d in densities), score.abs())


def along(values: Tensor, axis: int, dims: int) -> Tensor:
    """Values (C,) as a tensor of `dims` axes whose axis `axis` has length C and whose other axes have length 1."""
    shape = [1] * dims
    shape[axis] = len(values)
    return values.reshape(shape)


def affine(h: Tensor, gain: Tensor | None, bias: Tensor | None, channel: int) -> Tensor:
    """Gain * h + bias, one (gain, bias) per channel: FiLM (Perez et al. 2018, eq. 2), BatchNorm's affine half."""
    for name, values in (("gain", gain), ("bias", bias)):
        if values is not None and values.shape != (h.shape[channel],):
            # A single number would broadcast in silence, and the truth must not be lenient.
            raise ValueError(f"{name} must be ({h.shape[channel]},); got {tuple(values.shape)}; give one per channel")
    if gain is not None:
        h = along(gain, channel, h.dim()) * h
    if bias is not None:
        h = h + along(bias, channel, h.dim())
    return h


def gate_value(code: Tensor, form: str) -> Tensor:
    """The factor of a gate: sigmoid(c); 'doubled' 2 sigmoid(c), 1 at c = 0; 'hard' 1[c >= 0] with derivative 1."""
    if form == "sigmoid":
        return torch.sigmoid(code)
    if form == "doubled":
        return 2 * torch.sigmoid(code)
    if form == "hard":
        return straight_through((code >= 0).to(code.dtype), code)
    raise ValueError(f"form must be 'sigmoid', 'doubled' or 'hard'; got {form!r}; choose one of them")


def gate(h: Tensor, code: Tensor, form: str, channel: int) -> Tensor:
    """H * gate(code), per channel (ANML's gate, Beaulieu et al. 2020, is the 'sigmoid' form)."""
    return affine(h, gate_value(code, form), None, channel)


def conceptor(half: Tensor, n: int) -> Tensor:
    """The symmetric matrix (n, n) whose rows from the diagonal on are listed one after the other."""
    listed = iter(half)
    rows: list[list[Tensor]] = [[half.new_zeros(()) for _ in range(n)] for _ in range(n)]
    for i in range(n):
        for j in range(i, n):
            rows[i][j] = rows[j][i] = next(listed)
    return torch.stack([torch.stack(row) for row in rows])


def mixed(h: Tensor, mix: Tensor, channel: int) -> Tensor:
    """Each channel a weighted sum of all: h'_i = sum_j mix_ij h_j."""
    parts = [sum(mix[i, j] * h.select(channel, j) for j in range(len(mix))) for i in range(len(mix))]
    return torch.stack(parts, channel)


def head(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X W^T + b: a task's own classifier; x (B, D), weight (classes, D), bias (classes,)."""
    logits = x @ weight.T
    return logits if bias is None else logits + bias


# Weights --------------------------------------------------------------------------------------------------------------


def generated(W: Tensor, weight: Tensor) -> Tensor:
    """The generated weight itself: this kind forgets W (von Oswald et al. 2020)."""
    return weight.reshape(W.shape)


def low_rank(W: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """W + scale * (b a) in W's shape (LoRA, Hu et al. 2021, eq. 3); a (rank, fan_in flat), b (out, rank)."""
    return W + scale * (b @ a).reshape(W.shape)


def wires(W: Tensor, delta: Tensor, density: float) -> Tensor:
    """W + the round(density n) largest |delta|, earlier places first, with a gradient to all of them; one place at a time."""
    flat = delta.flatten()
    sizes = flat.detach().abs().tolist()
    ranked = sorted(range(len(flat)), key=lambda place: (-sizes[place], place))
    kept = set(ranked[: round(density * len(flat))])
    # What is not kept gives 0 and the gradient of one.
    parts = [value if place in kept else value - value.detach() for place, value in enumerate(flat)]
    return W + torch.stack(parts).reshape(W.shape)


def switch(W: Tensor, D: Tensor, score: Tensor, scale: Tensor, form: str) -> Tensor:
    """W + a M D, or W + a S D with S of -1 and 1, or of -1, 0 and 1 (|s| of half a start's largest and more); dL/ds is dL/dM."""
    if form == "ternary":
        return W + scale[0] * signed(torch.ones_like(W), score, 0.5 / math.sqrt(W[0].numel())) * D
    mask = threshold(torch.ones_like(W), score, 0.0, False)
    return W + scale[0] * (mask if form == "mask" else mask + mask - 1) * D


def adafm(W: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Gamma (W - mean) / std + beta, kernel by kernel or row by row (GAN memory, Cong et al. 2020, eq. 6)."""
    flat = W.reshape(gamma.numel(), -1)
    made = []
    for kernel, scale, shift in zip(flat, gamma.flatten(), beta.flatten(), strict=True):
        mean = kernel.sum() / len(kernel)
        std = (((kernel - mean) ** 2).sum() / (len(kernel) - 1)).sqrt()
        made.append(scale * (kernel - mean) / std + shift)
    return torch.stack(made).reshape(W.shape)


def subset(W: Tensor, values: Tensor, places: Tensor) -> Tensor:
    """W with the numbers at some places of the flat weight exchanged, one after the other."""
    flat = list(W.flatten())
    for place, value in zip(places.tolist(), values, strict=True):
        flat[place] = value
    return torch.stack(flat).reshape(W.shape)


def rank1(W: Tensor, r: Tensor, s: Tensor) -> Tensor:
    """W * (s r^T) (BatchEnsemble, Wen et al. 2020); W (out, in, *kernel), s (out,), r (in,)."""
    return W * along(s, 0, W.dim()) * along(r, 1, W.dim())


def statistics(norm: str, mean: Tensor, var: Tensor) -> dict[str, Tensor]:
    """The buffers that give the norm of this name a task's own statistics; mean and var (C,)."""
    return {f"{norm}.running_mean": mean, f"{norm}.running_var": var}


# Sources --------------------------------------------------------------------------------------------------------------


def mlp(x: Tensor, layers: Sequence[tuple[Tensor, Tensor]], activation: Callable[[Tensor], Tensor] = F.relu) -> Tensor:
    """Linear layers (weight, bias), the activation between them and not after the last; x (D,) or (B, D)."""
    for i, (weight, bias) in enumerate(layers):
        x = x @ weight.T + bias
        if i < len(layers) - 1:
            x = activation(x)
    return x


def hypernet_row(
    code: Tensor, body: Callable[[Tensor], Tensor], head_weight: Tensor, head_bias: Tensor, offset: Tensor, scale: float
) -> Tensor:
    """Offset + scale * (H body(code) + h) in the offset's shape; H (n, D), h (n,), n = offset.numel()."""
    return offset + scale * (head_weight @ body(code) + head_bias).reshape(offset.shape)


def low_rank_row(mix: Tensor, basis: Tensor, offset: Tensor) -> Tensor:
    """Offset + sum_r mix_r basis_r; mix (R,), basis (R, *shape), offset (*shape)."""
    row = offset
    for r in range(len(mix)):
        row = row + mix[r] * basis[r]
    return row


# Running --------------------------------------------------------------------------------------------------------------


def run_single(
    net: nn.Module, weights: Tensors, taps: Mapping[str, Sequence[Tap]], buffers: Tensors, x: Tensor
) -> Tensor:
    """One forward of a copy of `net` in eval mode with these tensors, and these taps on the modules' outputs.

    The taps of a module act in their order; of an output that is a tuple the first element is tapped. ValueError for a
    name the net has not, and for a tap whose module the forward never calls: either would be a truth about nothing.
    """
    plain = copy.deepcopy(net).requires_grad_(False).eval()
    tensors, modules = {**weights, **buffers}, dict(plain.named_modules(remove_duplicate=False))
    # A slot that holds None (bias=False) counts: the name is the net's own.
    names = {f"{m}.{leaf}" if m else leaf for m, own in modules.items() for leaf in (*own._parameters, *own._buffers)}
    if foreign := sorted({*tensors, *taps} - names - set(modules)):
        raise ValueError(f"a tensor or tap must belong to the net; got {foreign}; use a name that the net has")
    fired: set[str] = set()

    def hook(module: nn.Module, args: tuple, out: Tensor | tuple, *, name: str) -> Tensor | tuple:
        fired.add(name)
        h = out[0] if isinstance(out, tuple) else out
        for gain, bias, channel in taps[name]:
            # Two axes: a matrix over the channels in the place of a factor for each.
            h = mixed(h, gain, channel) if gain is not None and gain.dim() == 2 else affine(h, gain, bias, channel)
        return (h, *out[1:]) if isinstance(out, tuple) else h

    handles = [modules[name].register_forward_hook(partial(hook, name=name)) for name in taps]
    # The fused attention of eval mode calls no submodules and, in places, has no derivative.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        out = functional_call(plain, tensors, (x,))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for handle in handles:
            handle.remove()
    if silent := sorted(set(taps) - fired):
        raise ValueError(f"a tap needs a module that the forward calls; got {silent}; tap a module that is called")
    return out


def run_slow(
    net: nn.Module, rows: Sequence[Row], x: Tensor, batch_axis: int = 0, output_axis: int | None = None
) -> Tensor:
    """Sample by sample, rows[i] for sample i; the outputs side by side, the narrower padded with -inf at the end.

    x has its samples on `batch_axis`, the output on `output_axis` (the same if None). Of a tuple the first element.
    """
    if len(rows) != x.shape[batch_axis]:
        raise ValueError(f"rows must be one per sample; got {len(rows)} for {x.shape[batch_axis]}; give each its row")
    outputs = []
    for i, (weights, taps, buffers) in enumerate(rows):
        out = run_single(net, weights, taps, buffers, x.narrow(batch_axis, i, 1))
        outputs.append(out[0] if isinstance(out, tuple) else out)
    widest = max(out.shape[-1] for out in outputs)
    padded = [F.pad(out, (0, widest - out.shape[-1]), value=float("-inf")) for out in outputs]
    return torch.cat(padded, dim=batch_axis if output_axis is None else output_axis)
