"""What can be trained on a stream: modulators of a frozen network, and the brackets and methods they are compared with.

A config names a class by its dotted path; it is called as ``class(target, stream, bench, **options)`` (`base.Learner`).

Args:
    target: the frozen network; a learner copies it or modulates it and never changes it.
    stream: the tasks; how many they are and how many classes each has is read from it.
    bench: the place of the run, whose seed ``source`` draws starts.
    x: inputs (B, ...), as the view of their task gives them.
    task: one id for all samples, or int64 (B,), one per sample.

"""

from tasks.continual.learners.base import Base, Learner
from tasks.continual.learners.batch_ensemble import BatchEnsemble
from tasks.continual.learners.dense import Dense
from tasks.continual.learners.ewc import OnlineEwc
from tasks.continual.learners.mixture import Routed
from tasks.continual.learners.modulated import Modulated
from tasks.continual.learners.nothing import Nothing
from tasks.continual.learners.probed import Probed
from tasks.continual.learners.psp import Psp
from tasks.continual.learners.ridge import Ridge
from tasks.continual.learners.separate import Separate
from tasks.continual.learners.supported import Supported

__all__ = [
    "Base",
    "BatchEnsemble",
    "Dense",
    "Learner",
    "Modulated",
    "Nothing",
    "OnlineEwc",
    "Probed",
    "Psp",
    "Ridge",
    "Routed",
    "Separate",
    "Supported",
]
