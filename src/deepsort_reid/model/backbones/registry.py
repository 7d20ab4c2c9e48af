"""The networks by name. A new family is a file beside this one, and a line here and in its list."""

from collections.abc import Callable, Mapping

from deepsort_reid.core.arch import ARCHS, TIMM
from deepsort_reid.model.backbones import osnet, resnet
from deepsort_reid.model.backbones.base import ReidNet
from deepsort_reid.model.backbones.deep_sort import DeepSortNet

Make = Callable[[str, int], ReidNet]  # name, number of classes

FAMILIES: Mapping[str, Make] = {  # by how a name begins
    "resnet": resnet.make,
    "osnet": osnet.make,
    "deepsort": lambda _, classes: DeepSortNet(classes),
}


def backbone(arch: str, classes: int, image_size: tuple[int, int]) -> ReidNet:
    """Make a network as its authors have it, with random weights and a classifier.

    Args:
        arch: a name that `core.arch.check` has accepted.
        classes: identities to tell apart.
        image_size: height and width in pixels, of which some networks of timm take but one.

    Raises:
        ConfigError: timm knows no such network, or it cannot be built for such images.
        MissingPackageError: timm is needed, and not installed.
    """
    if arch.startswith(TIMM):
        from deepsort_reid.model.backbones.from_timm import TimmNet

        return TimmNet(arch.removeprefix(TIMM), classes, image_size)
    family = next(name for name in FAMILIES if arch.startswith(name))
    assert arch in ARCHS  # noqa: S101 (checked where parameters and checkpoints are read)
    return FAMILIES[family](arch, classes)
