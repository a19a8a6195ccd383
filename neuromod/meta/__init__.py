"""Meta-learning: inner loops over dicts of tensors that are exact at second order, and the algorithms that stand on them."""

from neuromod.meta import dual, streaming
from neuromod.meta.closed_form import StreamingLDA, class_means, ridge
from neuromod.meta.cnaps import cnaps, prototypes
from neuromod.meta.dual import LinearHead
from neuromod.meta.functional import Functional
from neuromod.meta.inner import adapt, backward
from neuromod.meta.maml import Episodes, cavia, maml, reptile
from neuromod.meta.norms import BatchNorm, InstanceNorm, LayerNorm, check_exact, exact
from neuromod.meta.online import online, online_dual, online_head, reset_row
from neuromod.meta.optimisers import SGD, Adam

__all__ = [
    "SGD",
    "Adam",
    "BatchNorm",
    "Episodes",
    "Functional",
    "InstanceNorm",
    "LayerNorm",
    "LinearHead",
    "StreamingLDA",
    "adapt",
    "backward",
    "cavia",
    "check_exact",
    "class_means",
    "cnaps",
    "dual",
    "exact",
    "maml",
    "online",
    "online_dual",
    "online_head",
    "prototypes",
    "reptile",
    "reset_row",
    "ridge",
    "streaming",
]

# Former names, for code that imports them.
Head = LinearHead
sequential = streaming
