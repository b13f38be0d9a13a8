"""Zero is neutral, and signs and layers differ, also for colour-blind readers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb

from liquid_control.monitoring import colours

LAYERS = ("sensory", "inter", "command", "motor")

# Machado, Oliveira and Fernandes, A physiologically-based model for simulation of color vision
# deficiency, IEEE TVCG 15, 2009: severity 1, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}


def lab(colour: npt.ArrayLike, sight: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """CIE L*a*b* (D65) of an sRGB colour in [0, 1], as somebody sees it."""
    rgb = np.asarray(colour, dtype=float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(sight @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(xyz @ seen / (0.9505, 1.0, 1.089), 1e-9))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(first: str, second: str, sight: str) -> float:
    one, other = (lab(to_rgb(colour), SIGHT[sight]) for colour in (first, second))
    return float(np.linalg.norm(one - other))


@pytest.mark.parametrize("sight", SIGHT)
def test_layers_and_signs_differ_for_every_kind_of_colour_vision(sight: str) -> None:
    layers = colours.layer_colours(LAYERS).values()
    pairs = [*combinations(layers, 2), (colours.EXCITATORY, colours.INHIBITORY)]
    assert min(distance(*pair, sight) for pair in pairs) > 15  # 2.3 is just noticed


def test_known_layers_keep_their_colour_and_others_get_different_ones() -> None:
    known = colours.layer_colours(LAYERS)
    mixed = colours.layer_colours(["first", "motor", "second"])
    assert mixed["motor"] == known["motor"]
    assert len({*known.values(), mixed["first"], mixed["second"]}) == 6


def test_zero_is_neutral_and_signs_are_the_synapses() -> None:
    shown = colours.signed_colours([-2.0, 0.0, 2.0], limit=2.0)
    expected = [
        np.multiply(to_rgb(colour), 255)
        for colour in (colours.INHIBITORY, colours.NEUTRAL, colours.EXCITATORY)
    ]
    assert np.abs(shown - expected).max() <= 1


def test_values_beyond_the_limit_have_its_colour() -> None:
    values = np.linspace(-1, 1, 5)
    shown = colours.signed_colours(np.stack([values, 10 * values]))
    assert shown.shape == (2, 5, 3)
    assert shown.dtype == np.uint8
    assert np.array_equal(shown[1], colours.signed_colours(np.sign(values)))
    assert np.array_equal(shown[0], colours.signed_colours(3 * values, limit=3))


def test_further_from_zero_is_darker_on_both_sides() -> None:
    for sign in (-1, 1):
        shown = colours.signed_colours(sign * np.linspace(0, 1, 40)) / 255
        lightness = [lab(colour, SIGHT["normal"])[0] for colour in shown]
        assert (np.diff(lightness) < 0).all()
