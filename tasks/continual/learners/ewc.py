"""Online EWC: weights that mattered to earlier tasks are held by a spring each."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from neuromod import Target
from neuromod.modes import evaluating
from neuromod.seeds import generator
from tasks.config.fields import Share, Weight
from tasks.continual.learners.base import sample
from tasks.continual.learners.dense import Dense
from tasks.continual.streams import Stream, Task
from tasks.errors import UserError
from tasks.experiment import Bench


class Springs(nn.Module):
    """``strength / 2 * sum_i F_i (theta_i - theta*_i)^2``; after a task ``F <- decay * F + F_task``, ``theta* <- theta``.

    Schwarz et al. 2018, section 4, and Huszar 2018: one centre and one diagonal for all earlier tasks, and not one of each
    per task as in EWC (Kirkpatrick et al. 2017). Acts on the parameters of a network that somebody else owns.

    Args:
        net: acted upon; its parameters stay its owner's.
        strength: of the springs, >= 0; 0 is fine-tuning.
        decay: of earlier tasks' diagonals in [0, 1]; 1 keeps them all in full.

    """

    net: nn.Module

    def __init__(self, net: nn.Module, *, strength: float, decay: float) -> None:
        super().__init__()
        if not 0 <= strength < math.inf or not 0 <= decay <= 1:
            rule = "EWC needs a strength >= 0 and a decay in [0, 1]"
            raise UserError(
                f"{rule}; got strength={strength}, decay={decay}; correct learner.strength or learner.decay"
            )
        self.strength, self.decay = strength, decay
        self.__dict__["net"] = net
        for name, parameter in net.named_parameters():
            self.register_buffer(f"fisher:{_label(name)}", torch.zeros_like(parameter))
            self.register_buffer(f"centre:{_label(name)}", parameter.detach().clone())

    def fisher(self, name: str) -> Tensor:
        """The diagonal at one parameter, of its shape."""
        return self.get_buffer(f"fisher:{_label(name)}")

    def centre(self, name: str) -> Tensor:
        """Where one parameter was when the last task ended."""
        return self.get_buffer(f"centre:{_label(name)}")

    @torch.no_grad()
    def hold(self, fisher: dict[str, Tensor]) -> None:
        """Take in a task that was learned, by its diagonal."""
        for name, parameter in self.net.named_parameters():
            self.fisher(name).mul_(self.decay).add_(fisher[name])
            self.centre(name).copy_(parameter)

    @torch.no_grad()
    def backward(self) -> float:
        """Add the penalty's gradient ``strength * F (theta - theta*)`` to the parameters'; returns the penalty."""
        penalty = 0.0
        for name, parameter in self.net.named_parameters():
            away = parameter - self.centre(name)
            pull = self.strength * self.fisher(name) * away
            penalty += float((pull * away).sum()) / 2
            parameter.grad = pull if parameter.grad is None else parameter.grad.add_(pull)
        return penalty


class OnlineEwc(Dense):
    """One network for all tasks, `Springs` between them; labels of the Fisher are drawn from the network, not the data's.

    The diagonal of a task is an average over the 10 batches of 128 training images of `sample`.
    While tasks are learned the springs keep twice as many numbers as there are weights; what is kept for use is the weights.

    Args:
        strength: of the springs, >= 0; 0 is fine-tuning.
        decay: of earlier tasks' diagonals in [0, 1]; 1 keeps them all in full.

    """

    def __init__(
        self, target: Target, stream: Stream, bench: Bench, *, strength: Weight = 10.0, decay: Share = 1.0
    ) -> None:
        super().__init__(target, stream, bench)
        self.seed = bench.seeds["source"]
        self.springs = Springs(self.net, strength=strength, decay=decay)

    def before_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Add the pull of the springs."""
        self.springs.backward()

    def after_task(self, number: int, task: Task) -> None:
        """Hold the task that was learned."""
        with evaluating(self.net):
            self.springs.hold(fisher_diagonal(self.net, sample(task), generator(self.seed, "fisher", number)))


def fisher_diagonal(
    net: nn.Module, batches: Sequence[Tensor], draw: torch.Generator, chunk: int = 32
) -> dict[str, Tensor]:
    """``F_i = 1/N sum_n (d log p(y_n | x_n, theta) / d theta_i)^2``, one ``y_n ~ p(. | x_n, theta)`` per image.

    By the parameters' names and of their shapes. Gradients are those of single images: the square of a batch's gradient
    is another number.

    Args:
        net: in eval mode.
        batches: inputs (B, ...), N of them altogether.
        draw: a CPU generator for the labels.
        chunk: images per vectorised gradient, so that memory stays small.

    """
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(net, weights, (x[None],)), y[None])

    gradients = vmap(grad(loss), (None, 0, 0))
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for x in (part for batch in batches for part in batch.split(chunk)):
        with torch.no_grad():
            likely = net(x).softmax(1)
        y = torch.multinomial(likely.cpu(), 1, generator=draw).squeeze(1).to(x.device)
        for name, found in gradients(weights, x, y).items():
            total[name] += found.square().sum(0)
    return {name: value / sum(map(len, batches)) for name, value in total.items()}


def _label(name: str) -> str:
    return name.replace(".", "/")
