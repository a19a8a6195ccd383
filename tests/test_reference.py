"""The reference against numbers worked out by hand, closed-form gradients and finite differences."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from tests import reference as ref

F64 = torch.float64


def t(*values: object) -> Tensor:
    return torch.tensor(values[0] if len(values) == 1 else values, dtype=F64)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return draw(*shape, seed=seed).requires_grad_()


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


# Masks


def test_topk_by_hand_with_ties_by_position() -> None:
    W, score = t([[1.0, 2.0], [3.0, 4.0]]), t([[-5.0, 1.0], [1.0, -1.0]])
    assert ref.topk(W, score, 0.5).tolist() == [[1.0, 2.0], [0.0, 0.0]]  # |-5|, then the first of three ties
    assert ref.topk(W, score, 0.75).tolist() == [[1.0, 2.0], [3.0, 0.0]]
    assert ref.topk(W, score, 1.0).tolist() == W.tolist()
    assert ref.topk(W, score, 0.0).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert ref.topk_mask(t(-0.0, 0.0, 0.0, -0.0), 0.5).tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(("n", "density", "kept"), [(5, 0.5, 2), (7, 0.5, 4), (3, 0.5, 2), (10, 0.26, 3), (1, 0.5, 0)])
def test_topk_keeps_pythons_round(n: int, density: float, kept: int) -> None:
    mask = ref.topk(torch.ones(n, dtype=F64), draw(n), density)
    assert mask.sum() == kept  # 2.5 -> 2, 3.5 -> 4, 1.5 -> 2: halves go to the even number
    assert set(mask.tolist()) <= {0.0, 1.0}


def test_topk_gradient_reaches_masked_out_entries_with_the_sign() -> None:
    W, upstream = t(2.0, -3.0, 5.0, 7.0), t(1.0, 10.0, 100.0, 1000.0)
    score = t(4.0, -0.1, -3.0, 0.2).requires_grad_()
    (upstream * ref.topk(W, score, 0.5)).sum().backward()
    assert score.grad.tolist() == [2.0, 30.0, -500.0, 7000.0]  # upstream * W * sign(score), kept or not


def test_threshold_by_hand_and_strict() -> None:
    W, score = t(1.0, 2.0, 3.0), t(-1.0, 0.0, 1.0)
    assert ref.threshold(W, score, 0.0).tolist() == [0.0, 2.0, 3.0]
    assert ref.threshold(W, score, 0.0, strict=True).tolist() == [0.0, 0.0, 3.0]
    assert ref.threshold(W, t(4e-3, 5e-3, 6e-3), 5e-3, strict=True).tolist() == [0.0, 0.0, 3.0]


@pytest.mark.parametrize("strict", [False, True])
def test_threshold_gradient(strict: bool) -> None:
    score = t(-1.0, 0.0, 1.0).requires_grad_()
    (t(1.0, 10.0, 100.0) * ref.threshold(t(2.0, -3.0, 5.0), score, 0.0, strict=strict)).sum().backward()
    assert score.grad.tolist() == [2.0, -30.0, 500.0]


def test_bernoulli_by_hand() -> None:
    W, score = t(1.0, 2.0, 3.0, 4.0), t(0.0, 0.0, 1e3, -1e3)
    assert ref.bernoulli(W, score).tolist() == [1.0, 2.0, 3.0, 0.0]  # p = 1/2 is kept in evaluation
    noise = t(0.49, 0.5, 0.999, 0.0)  # strict: noise 1/2 against p = 1/2 drops, noise 0 against p = 0 drops
    assert ref.bernoulli(W, score, noise).tolist() == [1.0, 0.0, 3.0, 0.0]
    assert ref.bernoulli(W, score, noise, rescale=True).tolist() == [2.0, 0.0, 6.0, 0.0]


def test_bernoulli_gradient() -> None:
    W, upstream, raw = t(2.0, -3.0, 5.0), t(1.0, 10.0, 100.0), t(0.3, -2.0, 1.5)
    p = 1 / (1 + torch.exp(-raw))
    score = raw.clone().requires_grad_()
    (upstream * ref.bernoulli(W, score, t(0.1, 0.9, 0.9))).sum().backward()
    same(score.grad, upstream * W * p * (1 - p))


def test_bernoulli_rescale_gradient_flows_through_the_sum() -> None:
    W, upstream, raw = t(2.0, -3.0, 5.0), t(1.0, 10.0, 100.0), t(0.3, -2.0, 1.5)
    M = t(1.0, 0.0, 1.0)
    p = 1 / (1 + torch.exp(-raw))
    # L = sum_i u_i W_i M_i n / S, S = sum M, so dL/dM_j = u_j W_j n / S - (sum_i u_i W_i M_i) n / S^2.
    by_hand = upstream * W * 3 / 2 - (upstream * W * M).sum() * 3 / 4
    score = raw.clone().requires_grad_()
    (upstream * ref.bernoulli(W, score, t(0.1, 0.9, 0.3), rescale=True)).sum().backward()
    same(score.grad, by_hand * p * (1 - p))


@pytest.mark.parametrize("seed", range(5))
def test_masks_are_exactly_zero_or_one_in_float32(seed: int) -> None:
    score, ones = draw(400, seed=seed).float(), torch.ones(400)
    noise = torch.rand(400, generator=torch.Generator().manual_seed(seed))
    for M in (ref.topk(ones, score, 0.3), ref.threshold(ones, score, 0.0), ref.bernoulli(ones, score, noise)):
        assert M.dtype == torch.float32
        assert set(M.tolist()) == {0.0, 1.0}


def test_affine_by_hand_on_each_axis() -> None:
    h = t([[1.0, 2.0], [3.0, 4.0]])
    assert ref.affine(h, t(10.0, 100.0), t(1.0, 2.0), 1).tolist() == [[11.0, 202.0], [31.0, 402.0]]
    assert ref.affine(h, t(10.0, 100.0), t(1.0, 2.0), -2).tolist() == [[11.0, 21.0], [302.0, 402.0]]
    assert ref.affine(h, None, t(1.0, 2.0), 1).tolist() == [[2.0, 4.0], [4.0, 6.0]]
    assert ref.affine(h, None, None, 1) is h
    with pytest.raises(ValueError, match="gain must be"):
        ref.affine(h, t([2.0]), None, 1)


def test_gates_by_hand() -> None:
    h, code = t([[1.0, 2.0, 3.0]]), t(0.0, torch.log(t(3.0)).item(), -1e3)
    same(ref.gate(h, code, "sigmoid", 1), t([[0.5, 1.5, 0.0]]))
    same(ref.gate(h, code, "doubled", 1), t([[1.0, 3.0, 0.0]]))
    assert ref.gate(h, code, "hard", 1).tolist() == [[1.0, 2.0, 0.0]]
    with pytest.raises(ValueError, match="form must be"):
        ref.gate(h, code, "soft", 1)
    code = t(-2.0, 0.0, 3.0).requires_grad_()  # the hard form's derivative is the identity
    ref.gate(t([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]), code, "hard", 1).sum().backward()
    assert code.grad.tolist() == [11.0, 22.0, 33.0]  # the sum of h over the batch, whatever the sign of the code


def test_weight_kinds_by_hand() -> None:
    W = t([[1.0, 2.0], [3.0, 4.0]])
    assert ref.generated(W, t(9.0, 8.0, 7.0, 6.0)).tolist() == [[9.0, 8.0], [7.0, 6.0]]
    assert ref.low_rank(W, t([[1.0, 10.0]]), t([[1.0], [2.0]]), 0.5).tolist() == [[1.5, 7.0], [4.0, 14.0]]
    assert ref.rank1(W, t(1.0, 10.0), t(1.0, 2.0)).tolist() == [[1.0, 20.0], [6.0, 80.0]]
    assert ref.head(t([[1.0, 2.0]]), W, t(0.5, -0.5)).tolist() == [[5.5, 10.5]]


def test_rank1_and_low_rank_of_a_convolution() -> None:
    W, r, s, a, b = draw(3, 2, 2, 2), draw(2, seed=1), draw(3, seed=2), draw(2, 8, seed=3), draw(3, 2, seed=4)
    for o in range(3):
        for i in range(2):
            for u in range(2):
                for v in range(2):
                    same(ref.rank1(W, r, s)[o, i, u, v], W[o, i, u, v] * s[o] * r[i])
                    delta = b[o, 0] * a[0, 4 * i + 2 * u + v] + b[o, 1] * a[1, 4 * i + 2 * u + v]
                    same(ref.low_rank(W, a, b, 0.1)[o, i, u, v], W[o, i, u, v] + 0.1 * delta)


def test_sources_by_hand() -> None:
    layers = [(t([[1.0, -1.0], [-1.0, 1.0]]), t(0.0, 1.0)), (t([[2.0, 3.0]]), t([5.0]))]
    assert ref.mlp(t(1.0, 3.0), layers).tolist() == [14.0]  # relu(-2), relu(3) = 0, 3; 2*0 + 3*3 + 5
    body, H, h = (lambda c: 2 * c), t([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]), t(0.0, 0.0, 0.0, 1.0)
    row = ref.hypernet_row(t(1.0, 2.0), body, H, h, torch.ones(2, 2, dtype=F64), 0.5)
    assert row.tolist() == [[2.0, 3.0], [4.0, 1.5]]
    assert ref.low_rank_row(t(2.0, -1.0), t([[1.0, 0.0], [1.0, 3.0]]), t(10.0, 20.0)).tolist() == [11.0, 17.0]


def test_smooth_equations_agree_with_finite_differences() -> None:
    W, h = draw(3, 2, 2), draw(4, 3, 2)
    gradcheck(lambda g, b: ref.affine(h, g, b, 1), (leaf(3), leaf(3, seed=1)))
    gradcheck(lambda c: ref.gate(h, c, "sigmoid", 1), (leaf(3),))
    gradcheck(lambda c: ref.gate(h, c, "doubled", -2), (leaf(3),))
    gradcheck(lambda a, b: ref.low_rank(W, a, b, 0.7), (leaf(2, 4), leaf(3, 2, seed=1)))
    gradcheck(lambda r, s: ref.rank1(W, r, s), (leaf(2), leaf(3, seed=1)))
    gradcheck(ref.head, (leaf(2, 3), leaf(4, 3, seed=1), leaf(4, seed=2)))
    gradcheck(
        lambda c, w, b, H, k, o: ref.hypernet_row(c, lambda z: ref.mlp(z, [(w, b)] * 2, torch.tanh), H, k, o, 0.3),
        (leaf(2), leaf(2, 2, seed=1), leaf(2, seed=2), leaf(6, 2, seed=3), leaf(6, seed=4), leaf(3, 2, seed=5)),
    )
    gradcheck(ref.low_rank_row, (leaf(2), leaf(2, 3, 2, seed=1), leaf(3, 2, seed=2)))


# Running


class Recurrent(nn.Module):
    """A network whose first module puts out a tuple, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 3)
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


def small() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)).double()
    for i, p in enumerate(net.parameters()):
        p.data = draw(*p.shape, seed=i)
    return net


def test_run_single_is_the_network_written_out() -> None:
    net, x = small().train(), draw(5, 2, seed=9)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    W, mean, var = leaf(3, 2, seed=20), draw(3, seed=21), draw(3, seed=22).abs() + 0.5
    gain, bias, gain2 = leaf(3, seed=23), draw(3, seed=24), draw(3, seed=25)
    taps = {"2": [(gain, bias, 1), (gain2, None, -1)]}
    out = ref.run_single(net, {"0.weight": W}, taps, ref.statistics("1", mean, var), x)
    h = (x @ W.T + net[0].bias - mean) / torch.sqrt(var + net[1].eps) * net[1].weight + net[1].bias
    by_hand = (torch.relu(h) * gain + bias) * gain2 @ net[3].weight.T + net[3].bias
    same(out, by_hand)
    for leaf_tensor in (W, gain):
        same(*(torch.autograd.grad(o.square().sum(), leaf_tensor, retain_graph=True)[0] for o in (out, by_hand)))
    assert net.training  # the copy was put in eval mode, not the user's network
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_run_single_taps_the_first_of_a_tuple_on_any_channel_axis() -> None:
    net, x, gain = Recurrent().double(), draw(4, 5, 2), draw(3, seed=1)
    out = ref.run_single(net, {}, {"rnn": [(gain, None, 2)]}, {}, x)
    same(out, (net.rnn(x)[0] * gain) @ net.out.weight.T + net.out.bias)
    net, image = nn.Sequential(nn.Conv2d(1, 2, 2)).double(), draw(3, 1, 4, 4)
    gain, bias = draw(2, seed=1), draw(2, seed=2)
    out = ref.run_single(net, {}, {"0": [(gain, bias, 1)]}, {}, image)
    same(out[:, 1], net(image)[:, 1] * gain[1] + bias[1])


def test_run_single_refuses_what_would_be_silently_ignored() -> None:
    with pytest.raises(ValueError, match="must belong to the net"):
        ref.run_single(small(), {"0.wieght": draw(3, 2)}, {}, {}, draw(1, 2))
    with pytest.raises(ValueError, match="must belong to the net"):
        ref.run_single(small(), {}, {"7": []}, {}, draw(1, 2))
    attention = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).double()
    with pytest.raises(ValueError, match=r"self_attn\.out_proj"):
        ref.run_single(attention, {}, {"self_attn.out_proj": [(torch.ones(4, dtype=F64), None, -1)]}, {}, draw(2, 3, 4))
    assert torch.backends.mha.get_fastpath_enabled()


def test_run_slow_gives_each_sample_its_row_and_pads_narrow_heads() -> None:
    net, x, narrow = small().eval(), draw(3, 2, seed=9), leaf(1, 3, seed=30)
    gain = draw(3, seed=31)
    rows = [({}, {}, {}), ({"3.weight": narrow, "3.bias": t([0.5])}, {}, {}), ({}, {"2": [(gain, None, 1)]}, {})]
    out = ref.run_slow(net, rows, x)
    with torch.no_grad():
        h = torch.relu(net[1](net[0](x)))
    same(out[0], h[0] @ net[3].weight.T + net[3].bias)
    same(out[1], torch.cat([h[1] @ narrow.T + 0.5, t([float("-inf")])]))
    same(out[2], (h[2] * gain) @ net[3].weight.T + net[3].bias)
    same(torch.autograd.grad(out[1, 0], narrow)[0], h[1:2])
    with pytest.raises(ValueError, match="one per sample"):
        ref.run_slow(net, rows[:2], x)


def test_run_slow_over_a_time_first_batch() -> None:
    net, x, gains = Recurrent().double(), draw(4, 3, 2), draw(3, 3, seed=1)
    out = ref.run_slow(net, [({}, {"rnn": [(g, None, -1)]}, {}) for g in gains], x, batch_axis=1)
    same(out, torch.stack([(net.rnn(x)[0][:, i] * gains[i]) @ net.out.weight.T + net.out.bias for i in range(3)], 1))
