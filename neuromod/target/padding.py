"""Padded places behind `torch.nn.TransformerEncoder`, which torch fills with zeros where no gradient is asked for."""

from typing import Any

import torch
from torch import Tensor, nn


class Padded:
    """A hook behind the last layer of an encoder: zeros at padded places, where torch's nested tensors would leave them.

    A skeleton's encoder runs layer by layer, so that gradients flow and taps act. In eval mode torch's own runs on nested tensors
    where it can, and those hold nothing at padded places; a mean over places tells the two apart.

    Args:
        encoder: the user's, whose options say whether torch would.

    """

    def __init__(self, encoder: nn.TransformerEncoder) -> None:
        self.checks = encoder.mask_check
        self.trained = any(p.requires_grad for p in encoder.parameters())

    def __call__(self, layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        """The output of the layer, with or without zeros.

        Args:
            layer: the last one of the encoder.
            args: the sequence (B, L, D).
            kwargs: the masks, as an encoder hands them to its layers.
            output: (B, L, D).

        """
        padding = kwargs.get("src_key_padding_mask")
        if padding is None or not self._nested(args[0], padding == 0, kwargs.get("src_mask"), output):
            return output
        return output.masked_fill((padding != 0).unsqueeze(-1), 0.0)

    def _nested(self, x: Tensor, kept: Tensor, mask: Tensor | None, output: Tensor) -> bool:
        """The conditions of `nn.TransformerEncoder.forward`."""
        asked = torch.is_grad_enabled() and (self.trained or output.requires_grad)
        if asked or mask is not None or x.dim() != 3 or not torch.backends.mha.get_fastpath_enabled():
            return False
        if torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling():
            return False
        return not self.checks or bool(torch._nested_tensor_from_mask_left_aligned(x, kept))


def pad(skeleton: nn.Module, net: nn.Module) -> None:
    """Put the hook behind each encoder of torch that may run on nested tensors.

    Args:
        skeleton: a copy of the network.
        net: the user's, or a skeleton's, whose hooks its copy has already.

    """
    for module, own in zip(skeleton.modules(), net.modules(), strict=True):
        if type(own) is nn.TransformerEncoder and own.use_nested_tensor and not _keys(last := _last(module)):
            last.register_forward_hook(Padded(own), with_kwargs=True)


def unpad(net: nn.Module) -> None:
    """Take the hooks away again."""
    for module in net.modules():
        if type(module) is nn.TransformerEncoder:
            last = _last(module)
            for key in _keys(last):
                del last._forward_hooks[key], last._forward_hooks_with_kwargs[key]


def _last(encoder: nn.Module) -> nn.Module:
    return encoder.get_submodule("layers")[-1]  # type: ignore[index,no-any-return]


def _keys(layer: nn.Module) -> list[int]:
    return [key for key, hook in layer._forward_hooks.items() if isinstance(hook, Padded)]
