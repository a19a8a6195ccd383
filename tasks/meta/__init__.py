"""Meta-learning experiments: few-shot classification, sinusoids, and learning many classes one image at a time."""

from tasks.meta.fewshot import FewShot
from tasks.meta.sinusoids import Sinusoids
from tasks.meta.streaming import Streaming

__all__ = ["FewShot", "Sinusoids", "Streaming"]
