"""The model card of a store: what it is, what it takes, how to load it."""

from collections.abc import Sequence

from neuromod.bank.config import Config

TEXT = """\
---
library_name: neuromod
tags: [neuromod, modulators]
---

# {count} tasks of one frozen network

Small modulators of one frozen network (fingerprint `{short}`), a file per task in `tasks/`; the network itself is not
here. Written by neuromod.

| modulator | kind | rows come from | sites |
|---|---|---|---|
{rows}

Tasks: {tasks}. Bytes when this card was written: {size:,}, {each:,} a task. Masks: {coding}.

    from neuromod import Target, from_pretrained
    model = from_pretrained("this folder", {how}
    model(inputs{call})
"""


def text(config: Config, tasks: Sequence[int], size: int) -> str:
    """The card as Markdown.

    Args:
        config: of the store.
        tasks: their ids, in order.
        size: bytes of the store's files when the card is written.

    """
    rows = "\n".join(f"| {m.name} | {m.kind} | {m.source}, {m.reads} | {len(m.sites)} |" for m in config.modulators)
    reads = {m.reads for m in config.modulators}
    recipe = config.target.recipe
    how = "target=Target(network, example))" if recipe is None else f"constructor=f)  # f is {recipe['constructor']}"
    strange = sorted({name for m in config.modulators for name in m.strange})
    if strange:
        how = f"classes=[{', '.join(strange)}], {how}"
    call = (", task=t" if "task" in reads else "") + (", condition=c" if "condition" in reads else "")
    return TEXT.format(
        count=len(tasks),
        short=config.target.fingerprint[:12],
        rows=rows,
        tasks=_shown(tasks),
        size=size,
        each=size // max(len(tasks), 1),
        coding=config.coding,
        how=how,
        call=call,
    )


def _shown(tasks: Sequence[int]) -> str:
    """Task ids, the middle of many left out."""
    listed = list(map(str, tasks))
    return ", ".join(listed if len(listed) <= 12 else [*listed[:5], "...", *listed[-5:]]) or "none"
