"""Streams: sequences of tasks made from image sets.

A config names a function ``(image_set, tasks, seed, **options) -> Stream`` by its dotted path.

Args:
    image_set: the images, prepared; all tasks share one copy of them.
    tasks: how many tasks, at least 1.
    seed: of everything that the stream draws; equal seeds give equal tasks.

"""

from tasks.continual.streams.alphabets import alphabets
from tasks.continual.streams.augment import AUGMENT
from tasks.continual.streams.base import Split, Stream, Task, View, held_out
from tasks.continual.streams.permuted import permuted
from tasks.continual.streams.questions import questions
from tasks.continual.streams.repeated import repeated
from tasks.continual.streams.rotated import rotated
from tasks.continual.streams.sampler import BatchSampler, MixedSampler, batches, evaluate_batches
from tasks.continual.streams.several import several
from tasks.continual.streams.split import split
from tasks.continual.streams.views import Normalise, normalisation
from tasks.continual.streams.which import which

__all__ = [
    "AUGMENT",
    "BatchSampler",
    "MixedSampler",
    "Normalise",
    "Split",
    "Stream",
    "Task",
    "View",
    "alphabets",
    "batches",
    "evaluate_batches",
    "held_out",
    "normalisation",
    "permuted",
    "questions",
    "repeated",
    "rotated",
    "several",
    "split",
    "which",
]
