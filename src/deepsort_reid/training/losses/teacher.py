"""What a larger network teaches: the similarities of the images of a batch, as it sees them.

Only similarities are compared, so teacher and student may have embeddings and images of any size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.model import network
from deepsort_reid.model.checkpoint import Description
from deepsort_reid.model.embed import folded
from deepsort_reid.training.bfloat16 import keep_wrong_in_float32
from deepsort_reid.training.losses.pairs import Pairs


class Teacher:
    """A trained network, asked for its embeddings of the images that the student sees."""

    def __init__(self, net: nn.Module, about: Description, device: torch.device):
        """Copy the network to the device.

        Args:
            net: as `checkpoint.load` returns it.
            about: likewise.
            device: that computes.
        """
        self.net = folded(network.without_classifier(net)).to(device)
        self.net = self.net.to(memory_format=network.layout(self.net, device))
        height, width = about.image_size
        self.image_size = (height, width)
        mean, std, own_mean, own_std = (
            torch.tensor(values, device=device).view(3, 1, 1)
            for values in (about.mean, about.std, MEAN, STD)
        )
        self.scale, self.offset = own_std / std, (own_mean - mean) / std

    def prepare_for_bfloat16(self) -> None:
        """Get ready to be called in bfloat16 on a CPU."""
        self.net = self.net.to(memory_format=torch.channels_last)
        keep_wrong_in_float32(self.net, self.image_size)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) augmented, normalised by MEAN and STD -> (B, D) float32 of unit length."""
        images = images * self.scale + self.offset
        if images.shape[2:] != self.image_size:
            images = F.interpolate(images, self.image_size, mode="bilinear", align_corners=False)
        return network.embed(self.net, images)


def similarity_preserving(student: Pairs, teacher: Pairs) -> Tensor:
    """How far the student's similarities are from the teacher's, summed over the anchors.

    Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019: the similarities of an
    image to the others of the batch are a row of unit length; the loss is the squared difference of
    the two networks' rows, from 0 to 4 for each image.

    Args:
        student: this rank's images beside all.
        teacher: the same images, as the teacher sees them.
    """
    seen = student.same | student.other
    of_student, of_teacher = (F.normalize(pairs.cosines * seen) for pairs in (student, teacher))
    return (of_student - of_teacher.to(of_student.dtype)).square().sum()
