"""Masks that training would have left, over weights that were never trained (Zhou et al. 2019, section 3)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from torch import nn

from neuromod.analysis import masked, masks, signed_constant
from tasks.config.fields import Range
from tasks.continual import learners
from tasks.continual.measures.reduced import accuracy_with, trained_weights
from tasks.continual.streams import Stream
from tasks.experiment import Bench
from tasks.report import figures
from tasks.report.panels import Panel, Section, looks_of
from tasks.report.read import Run
from tasks.report.svg import styles
from tasks.report.table import percent

DENSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def measure(
    learner: Any,
    stream: Stream,
    bench: Bench,
    *,
    criteria: Sequence[str] = (),
    densities: Sequence[Annotated[float, Range(above=0, below=1)]] = DENSITIES,
) -> dict[str, Any] | None:
    """Accuracy in [0, 1] of masks by criterion, over the start (``init``) and over its signs at one size per layer
    (``constant``).

    Per criterion and start: a ``curve`` of (density, accuracy on test images), the ``density`` that was best on
    training images, and the ``accuracy`` there on test images. None of anything but a dense network.

    Args:
        criteria: names of `neuromod.analysis.masks`; none: nothing is measured.
        densities: shares of weights kept, in (0, 1).

    """
    if not isinstance(learner, learners.Dense) or not criteria:
        return None
    initial, final = trained_weights(learner)
    starts = {"init": initial, "constant": signed_constant(initial)}
    found: dict[str, Any] = {name: {} for name in criteria}
    for name in found:
        made = {share: masks(initial, final, name, share) for share in densities}
        for label, weights in starts.items():
            found[name][label] = _best(learner.net, {share: masked(weights, m) for share, m in made.items()}, stream)
    return found


def _best(net: nn.Module, candidates: Mapping[float, Mapping[str, Any]], stream: Stream) -> dict[str, Any]:
    """The density that is best on training images, and the accuracy on test images at every density."""
    chosen_on = {share: accuracy_with(net, weights, stream, train=True) for share, weights in candidates.items()}
    tested = {share: accuracy_with(net, weights, stream) for share, weights in candidates.items()}
    best = max(chosen_on, key=lambda share: chosen_on[share])
    return {"density": best, "accuracy": tested[best], "curve": [[share, value] for share, value in tested.items()]}


def draw(runs: Sequence[Run], names: Sequence[str]) -> list[Section]:
    """Accuracy of masks over untrained weights, by criterion and density."""
    panels = []
    for i, run in enumerate(runs):
        if not (found := run.measure("criteria")):
            continue
        for start, of in (("init", "the start itself"), ("constant", "the signs of the start, one size per layer")):
            lines = [
                (name, [share for share, _ in one[start]["curve"]], [value for _, value in one[start]["curve"]])
                for name, one in found.items()
            ]
            label = f"Accuracy of masks over {of} of {names[i]}: " + ", ".join(f"{n} {max(y):.3f}" for n, _, y in lines)
            looks = list(styles([name for name, _, _ in lines]).values())
            svg = figures.progress(
                f"criteria-{start}-{i}", label, lines, looks, ("share kept", "accuracy, no weight trained")
            )
            panels.append(
                Panel(f"{names[i]}, {of}", looks_of(runs)[i][0], svg, _signs(run) if start == "constant" else "")
            )
    caption = (
        "Masks by criteria of training, laid over weights that were never trained (Zhou et al. 2019): what the choice of "
        "weights alone is worth."
    )
    return [Section("criteria", "Masks at iteration 0", caption, tuple(panels))] if panels else []


def _signs(run: Run) -> str:
    """What is left of the network when every weight of a layer gets one size."""
    reduced = run.measure("reduced")
    if not reduced:
        return ""
    return (
        f"No weight removed, one size per layer: trained signs {percent(reduced['final_signs'])} %, "
        f"signs of the start {percent(reduced['initial_signs'])} %; trained weights {percent(run.result['value'])} %."
    )
