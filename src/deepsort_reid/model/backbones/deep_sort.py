"""The network of deep_sort_pytorch, the tutorial's."""

from typing import cast

from torch import Tensor, nn

from deepsort_reid.model.backbones.base import ReidNet, stride_one
from deepsort_reid.model.backbones.resnet import BasicBlock, layer_of


class DeepSortNet(ReidNet):
    """The small network of deep_sort_pytorch, under its own names, so that its trackers load it.

    Four layers of two residual blocks, 64 to 512 channels, on an input halved once. The classifier
    has a hidden layer of 256.
    """

    feature_size = 512

    def __init__(self, classes: int):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=1, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
        )
        self.layer1 = layer_of(BasicBlock, 64, 64, depth=2, stride=1)
        self.layer2 = layer_of(BasicBlock, 64, 128, depth=2, stride=2)
        self.layer3 = layer_of(BasicBlock, 128, 256, depth=2, stride=2)
        self.layer4 = layer_of(BasicBlock, 256, 512, depth=2, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(512, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(256, classes),
        )
        self.neck = nn.Identity()

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512)."""
        x = self.layer2(self.layer1(self.conv(images)))
        return cast("Tensor", self.avgpool(self.layer4(self.layer3(x))).flatten(1))

    def keep_last_map(self) -> None:
        """Set the last layer's stride to 1."""
        stride_one(self.layer4)
