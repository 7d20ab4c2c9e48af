"""The shadows that synthetic pedestrians cast on the ground, and where they fall."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deepsort_reid.synthetic.person.figure import Layer, View

DARK = 110  # of 255: how much light the ground about the feet lacks, even under an overcast sky


def slopes(view: View) -> tuple[float, float]:
    """Where what is 1 above the feet falls: to the right of them and down in the picture."""
    x, y, z = view.light.direction
    away = float(z / y * np.sin(view.pitch))
    return -x / y, max(abs(away), 0.08) * (1.0 if away >= 0 else -1.0)  # never thinner than a line


def shadow(
    layer: Layer,
    zoom: float,
    foot: tuple[float, float],
    scale: float,
    view: View,
    size: tuple[int, int],
    *,
    blur: float,
) -> Image.Image:
    """How much light somebody takes from the ground, 255 for all of it.

    Args:
        layer: the somebody.
        zoom: pixels of the layer for one of the shadow.
        foot: row and column of the point stood on, in the shadow's picture.
        scale: pixels per metre across, in the shadow's picture.
        view: from where the layer was drawn, and in which light.
        size: width and height of the shadow's picture.
        blur: its softness, in pixels.
    """
    row, column = foot
    aside, away = slopes(view)
    # The figure is laid down: an affine map from the ground back to its layer.
    matrix = (
        *(zoom, zoom * aside / away, layer.foot[1] - zoom * (column + aside / away * row)),
        *(0.0, zoom / away, layer.foot[0] - zoom * row / away),
    )
    strength = 0.8 * view.light.sun[0]
    alpha = Image.fromarray(layer.picture[..., 3])
    cast = alpha.transform(size, Image.Transform.AFFINE, matrix)
    shade = cast.point([round(n * strength) for n in range(256)])
    reach = 0.26 * scale
    edges = (column - reach, row - 0.3 * reach, column + reach, row + 0.3 * reach)
    ImageDraw.Draw(shade).ellipse(edges, fill=DARK)
    return shade.filter(ImageFilter.BoxBlur(blur))
