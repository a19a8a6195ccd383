"""Streams: sequences of tasks made from image sets."""

from tasks.streams.alphabets import alphabets
from tasks.streams.augment import AUGMENT
from tasks.streams.base import Split, Stream, Task, View, held_out
from tasks.streams.permuted import permuted
from tasks.streams.questions import questions
from tasks.streams.repeated import repeated
from tasks.streams.rotated import rotated
from tasks.streams.sampler import BatchSampler, MixedSampler, batches, evaluate_batches
from tasks.streams.several import several
from tasks.streams.split import split
from tasks.streams.views import Normalise, normalisation
from tasks.streams.which import which

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
