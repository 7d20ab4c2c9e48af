"""What every network is: a backbone, a pooling, a neck, and a classifier that teaches it."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

from torch import Tensor, nn

from deepsort_reid.model.heads import GemPool


class ReidNet(nn.Module):
    """What all networks have in common. `network.build` makes one.

    Attributes:
        classifier_name: of the module that makes logits of features; no embedding needs it.
        pool_name: of the module that pools the last feature map.
        keeps_last_map: whether the last stage keeps the size of its feature map as published.
        feature_size: D, components of an embedding.
        neck: between pooling and classifier.
    """

    classifier_name: ClassVar[str] = "classifier"
    pool_name: ClassVar[str] = "avgpool"
    keeps_last_map: ClassVar[bool] = False
    feature_size: int
    neck: nn.Module

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float, normalised -> (B, D) before the neck."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float, normalised -> (B, D) behind the neck, of any length."""
        return cast("Tensor", self.neck(self.pooled(images)))

    def logits(self, features: Tensor) -> Tensor:
        """(B, D) behind the neck -> (B, classes)."""
        return cast("Tensor", self.classifier_module(features))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float, normalised -> (B, classes) logits."""
        return self.logits(self.features(images))

    @property
    def classifier_module(self) -> nn.Module:
        """What makes logits of features."""
        return cast("nn.Module", getattr(self, self.classifier_name))

    @property
    def published(self) -> nn.Module:
        """The part whose tensors have the names of published files: the network itself."""
        return self

    @property
    def optional_parts(self) -> Sequence[str]:
        """Names in `published` of what belongs to a recipe: classifier, neck, pooling."""
        return self.classifier_name, "neck", self.pool_name

    def adapted(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Published tensors as this network takes them: as they are."""
        return tensors

    def keep_last_map(self) -> None:
        """Let the last stage keep the size of its feature map, which it would halve."""
        raise NotImplementedError

    def use_gem(self) -> None:
        """Pool by a generalised mean, not by the average."""
        setattr(self, self.pool_name, GemPool())


def stride_one(stage: nn.Module) -> None:
    """Set the stride of every convolution and average of a stage to 1."""
    for layer in stage.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)
        elif isinstance(layer, nn.AvgPool2d):
            layer.stride = layer.kernel_size = 1
