"""Taps: empty slots on a module of the skeleton, and the hooks that send a forward through what fills them.

The slots are filled for one call by ``torch.func.functional_call``, like any other tensor. They are buffers without a
value and not submodules, because an `nn.Sequential` would run a submodule as one of its layers.

An *output tap* is ``h' = gain * (mix h) + bias`` on a module's output (its first tensor, if it is a structure): ``mix`` is a matrix
over the channels, the other two are a number per channel. A *weight tap* is what a row of weights per sample does to a linear layer
or convolution, without building those weights: ``(W * s r^T) x + b = s * (W (r * x)) + b``, and ``(W + U D) x = W x + U (D x)``.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from neuromod.errors import RefusedError
from neuromod.target.sites import Site
from neuromod.target.structure import on_first

GAIN, BIAS, MIX = "tap_gain", "tap_bias", "tap_mix"
INPUT, SCALE, SHIFT, DOWN, UP = "tap_input", "tap_scale", "tap_shift", "tap_down", "tap_up"
OUTPUT_TAP, WEIGHT_TAP = (GAIN, BIAS, MIX), (INPUT, SCALE, SHIFT, DOWN, UP)


def add_tap(module: nn.Module, site: Site) -> None:
    """Make a module of the skeleton ready to be modulated: give it empty slots, and a hook that applies what fills them.

    At a site that is an output the slots are ``tap_gain``, ``tap_bias`` and ``tap_mix``, and the hook turns what the module puts
    out, h, into ``gain * (mix h) + bias``. At a weight they are those of a row of weights per sample (see the head of this file).
    A slot that nothing fills changes nothing. For `skeleton.build`, once per module, before anything is compiled: a second tap of
    the same sort is not added.

    Args:
        module: the skeleton's own; it gets buffers without a value, which no state_dict holds, and hooks.
        site: says whether an output or a weight is tapped, and which axes of the output are the channels and the batch.

    """
    slots = OUTPUT_TAP if site.role == "output" else WEIGHT_TAP
    if hasattr(module, slots[0]):
        return
    for slot in slots:
        module.register_buffer(slot, None, persistent=False)
    if site.role == "output":
        module.register_forward_hook(functools.partial(_through_output, channel=site.channel, batch=site.batch))
        return
    assert site.batch is not None
    module.register_forward_pre_hook(functools.partial(_into_weight, channel=site.channel, batch=site.batch))
    # In front of an output tap, whichever was added first.
    module.register_forward_hook(
        functools.partial(_through_weight, channel=site.channel, batch=site.batch), prepend=True
    )


def _through_output(module: nn.Module, args: object, output: Any, *, channel: int, batch: int | None) -> Any:
    if all(getattr(module, slot) is None for slot in OUTPUT_TAP):
        return output
    return on_first(output, lambda h: _affine(module, h, channel, batch))


def _affine(module: nn.Module, h: Tensor, channel: int, batch: int | None) -> Tensor:
    gain, bias, mix = getattr(module, GAIN), getattr(module, BIAS), getattr(module, MIX)
    own = h.dtype
    h = h if mix is None else mixed(mix, h, channel, batch)
    gain = None if gain is None else broadcast(gain, h, channel, batch)
    bias = None if bias is None else broadcast(bias, h, channel, batch)
    if gain is not None and bias is not None:
        moved = torch.addcmul(bias, gain, h)
    elif gain is not None:
        moved = gain * h
    else:
        moved = h if bias is None else h + bias
    # Numbers of a higher precision than the network's are applied in it; the network goes on in its own.
    return moved if moved.dtype == own else moved.to(own)


def mixed(mix: Tensor, h: Tensor, channel: int, batch: int | None) -> Tensor:
    """``mix h`` along the channels of a tensor, in the higher precision of the two.

    Refused: a matrix per sample where the rows of the tensor are not the samples.

    Args:
        mix: (C, C) for all samples, or (B, C, C), a matrix per sample.
        h: the tensor.
        channel: its axis of C.
        batch: its axis of B; None where none follows the batch.

    """
    dtype = torch.promote_types(mix.dtype, h.dtype)
    mix, h = mix.to(dtype), h.to(dtype)
    if mix.ndim == 2:
        return (h.movedim(channel, -1) @ mix.mT).movedim(-1, channel)
    _refuse_folded(-1 if batch is None else h.shape[batch], len(mix))
    assert batch is not None
    ends = (batch, channel % h.ndim)
    rows = h.movedim(ends, (0, -1))
    return torch.bmm(rows.reshape(len(rows), -1, rows.shape[-1]), mix.mT).reshape(rows.shape).movedim((0, -1), ends)


def _into_weight(module: nn.Module, args: tuple[Tensor, ...], *, channel: int, batch: int) -> Any:
    scale = getattr(module, INPUT)
    if scale is None:
        return None
    (x,) = args
    return (x * broadcast(scale.to(x.dtype), x, channel, batch),)


def _through_weight(module: nn.Module, args: tuple[Tensor, ...], h: Tensor, *, channel: int, batch: int) -> Tensor:
    scale, shift, down = getattr(module, SCALE), getattr(module, SHIFT), getattr(module, DOWN)
    if scale is not None:
        # Under autocast the layer puts out a lower precision than its modulation has.
        scale = broadcast(scale.to(h.dtype), h, channel, batch)
        h = scale * h if shift is None else torch.addcmul(broadcast(shift.to(h.dtype), h, channel, batch), scale, h)
    return h if down is None else _plus_low_rank(args[0], h, down, getattr(module, UP), batch)


def _plus_low_rank(x: Tensor, h: Tensor, down: Tensor, up: Tensor, batch: int) -> Tensor:
    """``h + U_b (D_b x)`` for each sample b: x (..., in), down (B, rank, in), up (B, out, rank)."""
    x, h = x.movedim(batch, 0), h.movedim(batch, 0)
    _refuse_folded(h.shape[0], len(down))
    if not torch.is_autocast_enabled(h.device.type):
        down, up = down.to(x.dtype), up.to(h.dtype)
    # D x^T and not x D^T: a product with few rows is twice as fast on a CPU as one with few columns.
    inner = torch.bmm(down, x.reshape(len(x), -1, x.shape[-1]).mT)
    flat = h.reshape(len(h), -1, h.shape[-1])
    return torch.baddbmm(flat, inner.mT, up.mT).reshape(h.shape).movedim(0, batch)


class FoldedError(RefusedError):
    """Rows of this call are not the samples: `batches.run` splits the batch instead."""


def _refuse_folded(found: int, rows: int) -> None:
    if found != rows:
        raise FoldedError(
            f"a row per sample needs an output whose rows are the samples; got {found} rows for {rows} samples; split the batch"
        )


def broadcast(values: Tensor, like: Tensor, channel: int, batch: int | None) -> Tensor:
    """View ``values`` so that they broadcast over a tensor.

    Refused: a row per sample where the rows of the tensor are not the samples (frames are folded into them, say).

    Args:
        values: (C,) for all samples, or (B, C), a row per sample.
        like: the tensor.
        channel: its axis of C, from the front or (negative) from the back.
        batch: its axis of B; None where none follows the batch.

    """
    channel %= like.ndim
    shape = [1] * like.ndim
    shape[channel] = values.shape[-1]
    if values.ndim == 2:
        _refuse_folded(-1 if batch is None else like.shape[batch], values.shape[0])
        assert batch is not None
        shape[batch] = values.shape[0]
        if channel < batch:
            values = values.T
    return values.reshape(shape)
