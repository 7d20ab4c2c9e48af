"""The one way from images to embeddings: a network in eval mode, and its pass over a part."""

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deepsort_reid.core.progress import Progress
from deepsort_reid.data.loading.augment import normalise
from deepsort_reid.data.loading.loader import Loader, Prefetcher
from deepsort_reid.data.loading.sampler import Indices
from deepsort_reid.data.packed import Part
from deepsort_reid.model import network
from deepsort_reid.model.backbones.base import ReidNet
from deepsort_reid.model.onnx_graph import traced

if TYPE_CHECKING:
    from deepsort_reid.model.onnx_file import OnnxRun

MANY = 10_000  # images
AT_A_TIME = 64  # of them
TRIED = 3  # of them, on which two ways to embed are compared
CLOSE = 1e-4  # each number of an embedding


class Predictor:
    """A copy of a network in eval mode on one device, with the preprocessing it was trained with.

    It takes images (B, H, W, 3) uint8 RGB of the size that the network was trained on, on any
    device. It computes in float32, colours innermost in memory, without gradients.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        fold: bool = False,
    ):
        """Copy the network to the device; the original stays as it is.

        Args:
            net: a network of `network.build`.
            mean: RGB, of colours in [0, 1], as in the network's checkpoint.
            std: likewise.
            device: the device that computes.
            fold: fold each batch normalisation into the convolution before it. That is faster,
                and rounds differently.
        """
        own = folded(net) if fold else copy.deepcopy(net)
        self.net = own.eval().to(device).to(memory_format=torch.channels_last)
        self.mean, self.std, self.device = tuple(mean), tuple(std), device
        self.run: OnnxRun | None = None

    def prepare_for(self, images: int, image_size: tuple[int, int]) -> None:
        """Get ready to embed so many images, whose embeddings differ by rounding alone.

        Many are worth a graph for ONNX Runtime, which takes seconds to trace: it embeds half as
        many images again as torch on a CPU, of networks with small layers four times as many.

        Args:
            images: how many there are.
            image_size: height and width in pixels.
        """
        if images < MANY or self.device.type != "cpu":
            return
        bare = folded(network.without_classifier(self.net))
        run = traced(bare, image_size, self.mean, self.std)
        given = np.random.default_rng(0).integers(0, 256, (TRIED, *image_size, 3), np.uint8)
        if run and np.abs(run(given) - self.embed(torch.from_numpy(given)).numpy()).max() < CLOSE:
            self.run = run

    @torch.inference_mode()
    def embed(self, images: Tensor, *, mirrored: bool = False) -> Tensor:
        """(B, D) float32 of unit length on the device, of the images or their mirror images."""
        if self.run:
            given = images.numpy()[:, :, ::-1] if mirrored else images.numpy()
            # More at a time take memory, and are no faster.
            firsts = range(0, len(given), AT_A_TIME)
            parts = [self.run(given[first : first + AT_A_TIME]) for first in firsts]
            return torch.from_numpy(np.concatenate(parts))
        images = images.flip(2) if mirrored else images
        return network.embed(self.net, self.prepared(images))

    @torch.inference_mode()
    def classify(self, images: Tensor) -> Tensor:
        """(B,) int64 on the device: the class with the highest logit."""
        logits: Tensor = self.net(self.prepared(images))
        return logits.argmax(1)

    def prepared(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float32 on the device, normalised."""
        return normalise(images.to(self.device, non_blocking=True), self.mean, self.std)


def over_part(
    compute: Callable[[Tensor], Tensor],
    part: Part,
    what: str,
    *,
    batch_size: int,
    device: torch.device,
    which: Indices | None = None,
) -> Tensor:
    """Compute something of all images of a part, batch by batch and in their order.

    Args:
        compute: takes images (B, H, W, 3) uint8 on the device and returns a tensor (B, …).
        part: the images; the next batch is read while one is computed.
        what: the progress bar's name.
        batch_size: images at a time.
        device: the device that computes.
        which: (N,) places in the part, if not all of it.

    Returns:
        (N, …) on the CPU.
    """
    loader = Loader(part, device)
    which = np.arange(len(part)) if which is None else which
    batches = [which[first : first + batch_size] for first in range(0, len(which), batch_size)]
    results, done = torch.empty(0), 0
    with Progress(what, len(which), "images") as progress:
        for wanted, _ in Prefetcher(1)(loader.read, batches):
            computed = compute(loader.place(wanted))
            if done == 0:
                shape = (len(which), *computed.shape[1:])
                results = torch.empty(shape, dtype=computed.dtype)
            results.numpy()[done : done + len(wanted)] = computed.cpu().numpy()  # see OnnxRun
            done += len(wanted)
            progress.advance(len(wanted))
    return results


def folded(net: nn.Module) -> nn.Module:
    """A copy in eval mode in fewer layers, which does the same but for rounding.

    Each batch normalisation is folded into the convolution before it: the networks of this project
    run each convolution right before the normalisation that stands next to it, and in eval mode
    both are linear maps. A network of timm is brought into the form that its authors deploy.
    """
    if is_of_timm(net):
        return deployed(net).requires_grad_(False)
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for parent in list(net.modules()):
        children = list(parent.named_children())
        for (name, first), (next_name, second) in itertools.pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(first, second))
                setattr(parent, next_name, nn.Identity())
    return net


def deployed(net: nn.Module) -> nn.Module:
    """A network as its authors deploy it: parallel branches, if it has such, added up to one each.

    Returns:
        a copy in eval mode of a network of timm; any other network as it is.
    """
    if not is_of_timm(net):
        return net
    from timm.utils.model import reparameterize_model

    return reparameterize_model(copy.deepcopy(net).eval(), inplace=True)


def is_of_timm(net: nn.Module) -> bool:
    """Whether a network is a wrapper around one of timm's."""
    return isinstance(net, ReidNet) and net.published is not net
