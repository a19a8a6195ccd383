"""A user's mistake about a network or its sites gets one readable line: the rule, the value, the remedy."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from neuromod import (
    LowRankDelta,
    Modulated,
    Modulator,
    Table,
    Target,
)
from tasks.networks import conv, mlp
from tests.refusals import refuses

X = torch.randn(6, 12, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def target() -> Target:
    return Target(mlp((12,), 5, (10, 8), norm="layer", bias=True), X)


def test_sites_that_do_not_exist_are_answered_with_the_nearest() -> None:
    t = Target(conv((2, 8, 8), 5, (4, 6)), IMAGES)
    with refuses("match at least one weight", "'9.weigth'", "'9.weight'"):
        t.weights("0*", "9.weigth")
    with refuses("match at least one weight", "'11*'"):
        t.weights("*", exclude="11*")
    with refuses("at least one BatchNorm", "the network has none"):
        target().statistics()


def test_a_site_that_no_forward_uses() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(12, 3), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    t = Target(Idle(), X)
    with refuses("used by the forward", "'idle.weight'", "exclude"):
        t.weights("*")
    assert [s.name for s in t.weights("*", exclude="idle*")] == ["used.weight"]


def test_attention_does_not_call_its_projection() -> None:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    t = Target(Attend(), torch.randn(3, 5, 12))
    with refuses("'attention.out_proj'", "weights('attention.out_proj.weight')"):
        t.outputs("attention.out_proj")
    lora = Modulated(t, Modulator(LowRankDelta(), Table(1), t.weights("*out_proj*"), seed=0)).eval()
    before = lora(t.example[0], task=0)
    with torch.no_grad():
        next(p for n, p in lora.named_parameters() if n.endswith("/b")).fill_(0.5)
    assert not torch.equal(lora(t.example[0], task=0), before)


def test_computed_weights_name_what_is_stored() -> None:
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(12, 4)), nn.Linear(4, 2))
    t = Target(net, X)
    with refuses("'0.weight'", "parametrization", "'0.parametrizations.weight.original"):
        t.weights("0.weight")
    assert t.weights("0.parametrizations.weight.original1")[0].shape == (4, 12)


def test_a_module_called_with_two_widths() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.act = nn.Linear(12, 8), nn.Linear(8, 4), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.b(self.act(self.a(x))))

    t = Target(Shared(), X)
    with refuses("called several times", "'act'", "(6, 8)", "(6, 4)"):
        t.outputs("act")


def test_three_axes_need_layers_beside_or_a_channel() -> None:
    x = torch.randn(3, 5, 12)
    t = Target(nn.Sequential(nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 2)), x)
    assert t.outputs(nn.GELU)[0].shape == (8,)
    alone = Target(nn.Sequential(nn.GELU(), nn.Flatten(), nn.Linear(60, 2)), x)
    with refuses("channel axis of '0'", "GELU", "channel=axis"):
        alone.outputs(nn.GELU)
    assert alone.outputs(nn.GELU, channel=-1)[0].shape == (12,)


def test_a_network_that_cannot_follow_the_batch() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(6, 12)

    with refuses("accept any batch size", "ran at 6 and failed at 7"):
        Target(Fixed(), X)


def test_a_target_that_was_edited_in_place() -> None:
    net = nn.Sequential(nn.Linear(12, 2))
    t = Target(net, X)
    with torch.no_grad():
        net[0].weight += 1
    with refuses("a target never moves", "copy of the network"):
        t.verify()


def test_outputs_without_a_pattern() -> None:
    with refuses("outputs() takes at least one pattern", "got none", "outputs(nn.ReLU)", "norms()"):
        target().outputs()
    assert len(target().norms()) == 2
    assert len(target().weights()) == 3


def test_a_parametrized_weight_names_what_it_is_computed_from() -> None:
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(12, 8)), nn.Linear(8, 2))
    t = Target(net, torch.randn(3, 12))
    originals = [f"0.parametrizations.weight.original{i}" for i in (0, 1)]
    with refuses("'0.weight' is computed by a parametrization", *map(repr, originals)):
        t.weights("0.weight")
    assert [s.name for s in t.weights(*originals)] == originals


def test_norms_of_others_are_outputs() -> None:
    class RMS(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / x.square().mean(-1, keepdim=True).add(1e-6).sqrt()

    t = Target(nn.Sequential(nn.Linear(12, 8), RMS(), nn.Linear(8, 2)), torch.randn(3, 12))
    with refuses("at least one norm", "none of torch's", "outputs(Type, channel=axis)"):
        t.norms()
    assert t.outputs(RMS, channel=-1)[0].shape == (8,)
