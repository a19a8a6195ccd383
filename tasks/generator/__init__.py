"""One generator, many tasks, classes and styles: decoders and generators that are frozen and modulated."""

from tasks.generator.adapted import AdaptedDecoder
from tasks.generator.conditional import ConditionalGan

__all__ = ["AdaptedDecoder", "ConditionalGan"]
