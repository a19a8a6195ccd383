"""Colours of methods: any two can be told apart, by the colour-blind too, and each is seen on white."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib import colormaps

from tasks.report.figures import RAMP, readable_on
from tasks.report.svg import COLOURS

# How the three kinds of colour blindness see linear red, green and blue (Machado et al. 2009, severity 1).
EYES = {
    "most": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
LMS = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]])
LAB = np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])


def linear(colour: str) -> np.ndarray:
    found = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(found <= 0.04045, found / 12.92, ((found + 0.055) / 1.055) ** 2.4)


def luminance(found: np.ndarray) -> float:
    return float(found @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(("eyes", "apart"), [("most", 0.16), *((eyes, 0.07) for eyes in list(EYES)[1:])])
def test_any_two_of_twelve_colours_are_told_apart(eyes: str, apart: float) -> None:
    seen = [np.clip(np.asarray(EYES[eyes]) @ linear(colour), 0, 1) for colour in COLOURS]
    places = [LAB @ np.cbrt(LMS @ colour) for colour in seen]
    assert len(set(COLOURS)) == 12
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(places, 2)) > apart


def test_every_colour_is_seen_on_white() -> None:
    assert min(1.05 / (luminance(linear(colour)) + 0.05) for colour in COLOURS) > 3


def test_numbers_on_a_heat_map_are_read() -> None:
    for value in np.linspace(0, 1, 101):
        cell = colormaps[RAMP](value)
        hexed = "#" + "".join(f"{round(255 * part):02x}" for part in cell[:3])
        light = luminance(linear(hexed)) + 0.05
        assert (light / 0.05 if readable_on(cell) == "black" else 1.05 / light) > 4.5
