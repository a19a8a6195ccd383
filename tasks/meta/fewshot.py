"""Few-shot classification: MAML and CAVIA by inner steps, CNAPs-style FiLM by reading the support set."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuromod import Affine, Hypernet, Modulated, Modulator, Recipe, Target
from neuromod.meta import SGD, Episodes, Functional, backward, cavia, cnaps, maml
from tasks.data.load import ImageSet
from tasks.errors import UserError, nearest
from tasks.meta.pools import Pool, pools
from tasks.meta.sampling import episodes
from tasks.networks import Few
from tasks.runs.loop import loop
from tasks.runs.run import Run
from tasks.runs.seeds import derive, generator

METHODS = ("maml", "cavia", "film", "off")


def fewshot(
    config: Mapping[str, Any], images: ImageSet | None, run: Run, derived: Mapping[str, int], device: torch.device
) -> dict[str, Any]:
    """Meta-train on episodes of the background classes, test on episodes of classes never seen.

    ``accuracy`` is the mean over test tasks; ``meta.interval`` is 1.96 standard errors of it.
    """
    options = config["meta"]
    if options["method"] not in METHODS:
        known = nearest(str(options["method"]), METHODS)
        raise UserError(f"meta.method must be one of {', '.join(METHODS)}; got {options['method']!r}; nearest: {known}")
    if images is None:
        raise UserError("few-shot learning needs an image set; got data.name=null; pass data=omniglot")
    found = pools(images, options["validation"])
    learner = build(options, found.train, derived).to(device)
    train, test = found.train.to(device), found.test.to(device)
    moved = [p for p in learner.parameters() if p.requires_grad]
    steps = config["steps"] if moved else 0

    def drawn(pool: Pool, seed: int, number: int, *, turned: bool = False) -> Episodes:
        shape = {key: options[key] for key in ("ways", "shots", "queries", "tasks")}
        return episodes(pool, **shape, seed=seed, step=number, turned=turned)

    def step(number: int) -> Tensor:
        one = drawn(train, derived["data"], number, turned=options["turned"])
        loss = F.cross_entropy(answers(learner, one, options).flatten(0, 1), one.query[1].flatten())
        backward(loss)
        return loss.detach()

    loop(learner, step, run, config, steps)
    scores = []
    for number in range(-(-options["test"]["tasks"] // options["tasks"])):
        one = drawn(test, derived["sampling"], number)
        scores.append((answers(learner, one, options).argmax(2) == one.query[1]).double().mean(1))
    each = torch.cat(scores)[: options["test"]["tasks"]]
    return {
        "meta": {
            "interval": 1.96 * float(each.std()) / len(each) ** 0.5,
            "order": options["order"],
            "fast": options["method"],
        },
        "accuracy": float(each.mean()),
        "trained": f"{steps} outer steps",
        "parameters_shared": sum(p.numel() for p in moved),
        "stream": "episodes",
    }


def build(options: Mapping[str, Any], pool: Pool, derived: Mapping[str, int]) -> nn.Module:
    """What is meta-trained: a network of its own, or FiLM over a frozen one, drawn or trained on the background classes."""
    shape, width = tuple(pool.images.shape[2:]), options["width"]
    if options["method"] in ("maml", "cavia"):
        told = {"shape": shape, "outputs": options["ways"], "width": width}
        told |= {"context": options["context"]} if options["method"] == "cavia" else {}
        return Recipe(Few, told, init="kaiming_normal", seed=derived["target"]).build()
    net = Recipe(
        Few,
        {"shape": shape, "outputs": 0, "width": width, "norm": "instance"},
        init="kaiming_normal",
        seed=derived["target"],
    )
    body = net.build()
    assert isinstance(body, Few)
    if options["pretrain"]:
        pretrain(body, pool, options["pretrain"], derived["data"])
    target = Target(body, pool.seen((slice(2), 0)))
    if options["method"] == "off":
        return Modulated(target)
    reads = (None, *shape)
    encoder = Recipe(
        Few, {"shape": shape, "outputs": 0, "width": 16, "norm": "instance"}, seed=derive("encoder", derived["source"])
    )
    source = Hypernet("condition", code=reads, body=encoder.build())
    return Modulated(target, Modulator(Affine(), source, target.norms(), seed=derived["source"]))


def answers(learner: nn.Module, one: Episodes, options: Mapping[str, Any]) -> Tensor:
    """Logits (T, Q, ways) of the query sets after adaptation."""
    if options["method"] in ("film", "off"):
        return cnaps(learner, one, options["ways"], adapted=options["method"] == "film")
    told: dict[str, Any] = {"steps": options["inner"]["steps"], "order": options["order"]}
    rule, declared = SGD(options["inner"]["rate"]), Functional(learner, "*")

    def asked(fast: Mapping[str, Tensor], batch: Any) -> Any:
        if options["method"] == "cavia":
            return learner(batch[0], fast["context"])
        return declared(fast, batch[0])

    def loss(fast: Mapping[str, Tensor], batch: Any) -> Tensor:
        return F.cross_entropy(asked(fast, batch), batch[1])

    if options["method"] == "cavia":
        like = next(learner.parameters())
        return cavia(loss, options["context"], one, rule, like=like, judge=asked, **told)
    return maml(loss, declared.start(), one, rule, judge=asked, **told)


def pretrain(body: Few, pool: Pool, steps: int, seed: int, batch: int = 64) -> None:
    """Train a body with a linear head on the classes of a pool, Adam 1e-3; the head is dropped."""
    width = body(pool.seen((slice(2), 0))).shape[1]
    head = Recipe(nn.Linear, {"in_features": width, "out_features": len(pool)}, seed=derive("pretrain", seed)).build()
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=1e-3)
    for step in range(steps):
        rng = generator("pretrain", seed, step)
        classes = torch.randint(len(pool), (batch,), generator=rng)
        places = torch.randint(pool.each, (batch,), generator=rng)
        loss = F.cross_entropy(head(body(pool.seen((classes, places)))), classes)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
