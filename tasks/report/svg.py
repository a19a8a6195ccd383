"""One matplotlib figure as an inline SVG: the same bytes each time, no outside address, no id that could collide."""

import html
import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

INK = "#1f2328"
QUIET = "#8b949e"
# Twelve colours, each at 3 to 1 or more on white. Four are Okabe and Ito's; the others were searched for, so that any two lie apart
# in Oklab, as most eyes see them and as the colour-blind do (tests/tasks/report/test_palette.py). A dash of its own tells the rest.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#83023C", "#9016FA"),
    *("#0D18CF", "#6D5E3D", "#C50691", "#184564", "#F443EC", "#680796"),
)
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 3)), (0, (8, 2)))
Look = tuple[str, Any]
"""A colour, and a dash as matplotlib has it."""


def styles(methods: Sequence[str]) -> dict[str, Look]:
    """A colour and a dash for each method, in order of first appearance: no two of 12 share a colour, no two of 72 both."""
    distinct = list(dict.fromkeys(methods))
    return {
        m: (COLOURS[i % len(COLOURS)], DASHES[(i + i // len(COLOURS)) % len(DASHES)]) for i, m in enumerate(distinct)
    }


def _settings(key: str) -> Any:
    return {
        "svg.hashsalt": key,
        "svg.fonttype": "none",  # text stays text: small, searchable, and no glyph ids
        "text.parse_math": False,  # a dollar in a title is a dollar
        "font.size": 8.5,
        "axes.labelsize": 8.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": QUIET,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "lines.linewidth": 1.4,
    }


def render(key: str, label: str, size: tuple[float, float], draw: Callable[[Any], None]) -> str:
    """Draw on a fresh figure and return `<svg role="img" aria-label=...>`.

    Args:
        key: unique in the page, letters, digits and hyphens; it salts matplotlib's hashes and prefixes each id.
        label: what a reader hears in the place of the drawing.
        size: width and height, in inches.
        draw: draws on the figure that it is handed.

    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.StringIO()
    with matplotlib.rc_context(_settings(key)), warnings.catch_warnings():
        # Text is drawn by the reader's browser, whose fonts have the glyphs that matplotlib's own font may lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return inline(out.getvalue(), key, label)


def document(svg: str) -> str:
    """What `render` made for a page as a file of its own, on white: its ink is dark, and a page around it may be too."""
    root, _, rest = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).partition(">")
    return f'{root} font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="#fff"/>{rest}'


def inline(document: str, key: str, label: str) -> str:
    """An SVG document made fit to stand inside a page.

    Args:
        document: as matplotlib writes it.
        key: as of `render`.
        label: as of `render`.

    """
    body = document[document.index("<svg") :]
    # The style element would reach the whole page; what it says is said on the root below.
    body = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.S)
    root, _, rest = body.partition(">")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', rest))

    def own(tag: re.Match[str]) -> str:
        text = tag[0].replace("xlink:href=", "href=")
        text = re.sub(r' id="([^"]*)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", text)
        text = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", text)
        # matplotlib names fonts of its own; without them text takes the page's font, which surely exists.
        text = re.sub(r" ?font-family: [^;\"]*;?", "", text)
        return re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 var(--face, sans-serif)", text)  # up to matplotlib 3.9

    # Only tags are rewritten: a title may well contain ` id="x"`, and stays as it is.
    rest = re.sub(r"<[^>]+>", own, rest)
    box = " ".join(re.findall(r'(?:width|height|viewBox)="[^"]*"', root))
    lines = 'stroke-linejoin="round" stroke-linecap="butt"'
    return f'<svg role="img" aria-label="{html.escape(label)}" {box} {lines}>' + re.sub(r"\n\s*", "\n", rest).strip()
