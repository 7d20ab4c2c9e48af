"""The names that `arch` takes: the networks of this project, and all of timm's.

model/backbones/ makes them. A new family is a file there, and its names here.
"""

from deepsort_reid.core.errors import nearest_hint

ARCHS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet18d",
    "resnet10d",
    "resnet10d_x0_5",
    "resnet18_ibn_a",
    "resnet50_ibn_a",
    "osnet_x1_0",
    "osnet_x0_75",
    "osnet_x0_5",
    "osnet_x0_25",
    "osnet_ibn_x1_0",
    "osnet_ain_x1_0",
    "osnet_ain_x0_75",
    "osnet_ain_x0_5",
    "osnet_ain_x0_25",
    "deepsort",
)
TIMM = "timm/"  # before a name of timm's


def is_arch(name: object) -> bool:
    """Whether a network may have this name; timm itself knows which of its own exist."""
    return isinstance(name, str) and (name in ARCHS or (name.startswith(TIMM) and name != TIMM))


def unknown(name: str) -> str:
    """What is said of a name that no network has."""
    return f"{nearest_hint(name, ARCHS, most=3)}; networks of timm are timm/NAME"
