"""The README's ten lines work unchanged on networks of torchvision: a mask, an affine and a gate kind on each."""

import doctest
from pathlib import Path

import pytest
import torch

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small",
        pytest.param("resnet18", marks=pytest.mark.check),
        pytest.param("vit_b_16", marks=pytest.mark.check),
    ],
)
def test_ten_lines(name: str) -> None:
    text = README.read_text().replace("models.resnet18()", f"models.{name}()")
    names: dict[str, object] = {}
    test = doctest.DocTestParser().get_doctest(text, names, name, str(README), 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        failed, tried = doctest.DocTestRunner(verbose=False).run(test, clear_globs=False)
    assert (failed, tried >= 9) == (0, True)
    model, plain, x, net = (test.globs[key] for key in ("model", "plain", "x", "net"))
    with torch.no_grad():
        # Features, and not the logits alone: a random vision transformer starts with a head of zeros.
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        together = model.eval()(x, task=torch.tensor([0, 1, 1, 0]))
        alone = torch.stack([model(x[i : i + 1], task=t)[0] for i, t in enumerate([0, 1, 1, 0])])
        assert torch.allclose(together, alone, atol=1e-4 * max(1.0, float(alone.abs().max())))
    assert list(plain.state_dict()) == list(net.state_dict())
    model.target.verify()
