"""How a picture is drawn: one style, no display, and the same bytes for the same numbers.

Every figure is drawn in memory, without a display and without pyplot's global state, with fixed
settings whatever a user's matplotlibrc says, and written without dates or versions.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

from deepsort_reid.core.files import replacing

# Okabe and Ito's colours, which the colour-blind can tell apart.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#8A8A8A"
INK, FAINT = "#262626", "#6E6E6E"

DPI = 100
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
}

# Legends that a line may cross.
BACKED: Mapping[str, Any] = {"fontsize": 9, "frameon": True, "framealpha": 0.9, "edgecolor": "none"}


@contextmanager
def drawn(
    path: Path, width: int, height: int, layout: Literal["constrained"] | None = "constrained"
) -> Iterator[Figure]:
    """Yield a figure of so many pixels, and write it to `path` when the block succeeds."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout=layout)
        yield figure
        pixels = io.BytesIO()
        figure.savefig(pixels, format="rgba")  # by Agg, which needs no display
    picture = Image.frombytes("RGBA", (width, height), pixels.getvalue()).convert("RGB")
    encoded = io.BytesIO()
    # Pillow adds no date and no program's name. 4:4:4 keeps coloured lines sharp in a JPEG.
    picture.save(encoded, Image.registered_extensions()[path.suffix], quality=92, subsampling=0)
    with replacing(path) as temporary:
        # Not by Pillow: what it says of a full disk is "encoder error -2".
        temporary.write_bytes(encoded.getvalue())
