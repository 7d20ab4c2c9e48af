"""Any network of timm, by its name there: `timm/mobilenetv4_conv_small`.

timm is Ross Wightman's collection of image networks, a package that the extra `train` brings.
"""

import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn

from deepsort_reid.core.errors import ConfigError, MissingPackageError, nearest_hint
from deepsort_reid.model.backbones.base import ReidNet
from deepsort_reid.model.heads import GemPool

STRIDE_WITH_LAST_MAP = 16  # of the last feature map, if the last stage does not halve it
ONLY_A_NAME = re.compile(r"[A-Za-z0-9_.-]+")  # none of timm's addresses, by which it downloads


class TimmNet(ReidNet):
    """A network of timm without its classifier, and a linear one behind it.

    Where a network takes images of one size only, as vision transformers do, it is built for the
    size given. The tensors have timm's names, behind `backbone.`.
    """

    def __init__(self, name: str, classes: int, image_size: tuple[int, int]):
        """Make a network with random weights.

        Args:
            name: timm's, without `timm/`.
            classes: identities to tell apart.
            image_size: height and width in pixels.

        Raises:
            ConfigError: timm knows no such network, or it cannot be built for such images.
            MissingPackageError: timm is not installed.
        """
        super().__init__()
        self.name, self.image_size = checked(name), image_size
        self.backbone = self.made()
        self.feature_size = self.backbone.head_hidden_size
        self.classifier = nn.Linear(self.feature_size, classes)
        self.neck = nn.Identity()

    def made(self, **options: Any) -> Any:
        """A network of timm, which has what `options` ask for.

        Raises:
            ConfigError: it cannot be built so.
        """
        timm = library()
        if timm.get_pretrained_cfg(self.name).fixed_input_size:
            options["img_size"] = self.image_size
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # timm's, of its own past
                return timm.create_model(self.name, num_classes=0, **options)
        except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
            if "output_stride" in options:
                raise ConfigError(
                    f"last_stride=1: timm/{self.name} has no option to keep its last feature map; "
                    "set last_stride: 2"
                ) from None
            height, width = self.image_size
            raise ConfigError(
                f"timm/{self.name} cannot be built for images of {height}×{width}: {error}"
            ) from None

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D) as timm's network leaves them."""
        return cast("Tensor", self.backbone(images))

    @property
    def published(self) -> nn.Module:
        """Timm's network."""
        return cast("nn.Module", self.backbone)

    @property
    def optional_parts(self) -> Sequence[str]:
        """Names in timm's network: its classifier, and a pooling that has weights."""
        named = self.backbone.pretrained_cfg.get("classifier") or ()
        own = [name for name, one in self.backbone.named_modules() if isinstance(one, GemPool)]
        return [*([named] if isinstance(named, str) else named), *own]

    def adapted(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Tensors by the rules that timm has for a network's files, older ones among them.

        Position embeddings of another image size are resampled.
        """
        rules = getattr(sys.modules[type(self.backbone).__module__], "checkpoint_filter_fn", None)
        if rules is None:
            return tensors
        try:
            return cast("Mapping[str, Tensor]", rules(dict(tensors), self.backbone))
        except Exception:  # of another architecture, which whoever asks will find
            return tensors

    def keep_last_map(self) -> None:
        """Build the network again with a last stage that keeps its map, in timm's way: dilated.

        Raises:
            ConfigError: it has no such option.
        """
        self.backbone = self.made(output_stride=STRIDE_WITH_LAST_MAP)

    def use_gem(self) -> None:
        """Pool by a generalised mean.

        Raises:
            ConfigError: the network has no feature map that one number a channel is made of.
        """
        from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d

        pools = [one for one in self.backbone.modules() if isinstance(one, SelectAdaptivePool2d)]
        if len(pools) != 1 or not isinstance(pools[0].pool, nn.AdaptiveAvgPool2d):
            raise ConfigError(
                f"pooling=gem needs the average over a feature map, which timm/{self.name} does "
                "not take; set pooling: average"
            )
        setattr(pools[0], "pool", GemPool())  # noqa: B010 (typed as another class)


def library() -> ModuleType:
    """The package timm.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import timm
    except ModuleNotFoundError:
        raise MissingPackageError(
            "networks of timm need the package timm; `pip install timm` installs it"
        ) from None
    return timm


def checked(name: str) -> str:
    """A name, if timm knows it.

    Raises:
        ConfigError: it does not; the line names the nearest ones.
    """
    timm = library()
    if not ONLY_A_NAME.fullmatch(name) or not timm.is_model(name):
        hint = nearest_hint(name, timm.list_models(), most=3)
        raise ConfigError(f"arch: timm knows no network '{name}'; {hint}")
    _, dot, tag = name.partition(".")
    if dot and name not in (tagged := timm.list_pretrained(f"{name.partition('.')[0]}.*")):
        hint = nearest_hint(name, tagged, most=3)
        raise ConfigError(f"arch: timm knows no weights '{tag}' of that network; {hint}")
    return name
