"""Readers without red or green cones can tell the colours of pictures and report apart.

Colours are compared in OKLab (Ottosson 2020); deuteranopia as Machado et al. 2009 simulate it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from adding_problem.analysis.plots import style
from adding_problem.report.page import resource

LEAST = 0.12  # two neighbours of nine even steps from black to white are 0.125 apart
NORMAL = np.eye(3)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)
LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def seen(color: str, sight: NDArray[np.float64]) -> NDArray[np.float64]:
    """A colour such as #1c2024 in OKLab, as it is seen."""
    srgb = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lab: NDArray[np.float64] = LAB @ np.cbrt(LMS @ np.clip(sight @ linear, 0, 1))
    return lab


def of_report(scheme: int) -> list[str]:
    """The colours of the report's methods, in the light or the dark scheme."""
    pairs = re.findall(r"--c\d: light-dark\((#\w{6}), (#\w{6})\)", resource("templates/style.css"))
    assert len(pairs) == 7
    return [pair[scheme] for pair in pairs]


@pytest.mark.parametrize("sight", [NORMAL, DEUTERANOPIA], ids=["normal", "deuteranopia"])
@pytest.mark.parametrize(
    "colors", [style.PALETTE, of_report(0), of_report(1)], ids=["pictures", "light", "dark"]
)
def test_no_two_colours_look_alike(colors: Sequence[str], sight: NDArray[np.float64]) -> None:
    near = {
        pair: float(np.linalg.norm(seen(pair[0], sight) - seen(pair[1], sight)))
        for pair in combinations(colors, 2)
    }
    assert {pair: round(far, 3) for pair, far in near.items() if far < LEAST} == {}


def test_grey_stays_grey_and_red_and_green_come_closer() -> None:
    for grey in ("#000000", "#808080", "#ffffff"):
        assert seen(grey, DEUTERANOPIA) == pytest.approx(seen(grey, NORMAL), abs=2e-3)
    apart, closer = (
        np.linalg.norm(seen("#d03030", sight) - seen("#308030", sight))
        for sight in (NORMAL, DEUTERANOPIA)
    )
    assert closer < apart / 2
