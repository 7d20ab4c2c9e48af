"""Convolutions that a CPU computes wrongly in bfloat16, kept in float32.

Some read memory that nobody has written: with oneDNN of torch 2.14 on AMX and AVX-512, those of 3×3
pixels with stride 2 over maps one or two pixels wide. What they read is multiplied by zero,
which is right until it is NaN or infinity: a step in ten of a ResNet18 with images of 32×16 then
has a loss that is no number. So each convolution is tried with NaN in all free memory.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from deepsort_reid.model import network

TRIED = 8  # images
TOLERANCE = 0.05  # of the largest value; bfloat16 has eight bits
COPIES = 4  # of each block of free memory


class Float32Conv2d(nn.Conv2d):
    """A convolution that ignores autocast."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Module's own name
        """(B, C, H, W) of any floating dtype -> (B, C', H', W') float32."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


class Kind(NamedTuple):
    """What a convolution's kernel is chosen by."""

    maps: tuple[int, ...]  # (C, H, W) of its input
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


@torch.no_grad()
def keep_wrong_in_float32(net: nn.Module, image_size: tuple[int, int]) -> list[str]:
    """Make those convolutions of a network ignore autocast that are wrong in bfloat16 on this CPU.

    Args:
        net: on the CPU, in the memory format that it computes in; changed in place.
        image_size: height and width in pixels.

    Returns:
        their names.
    """
    kinds = kinds_of(net, image_size)
    layout = memory_format_of(net)
    wrong = {kind for kind in set(kinds.values()) if not is_right(kind, layout)}
    modules = dict(net.named_modules())
    names = [name for name, kind in kinds.items() if kind in wrong]
    for name in names:
        modules[name].__class__ = Float32Conv2d
    return names


def kinds_of(net: nn.Module, image_size: tuple[int, int]) -> dict[str, Kind]:
    """The kind of each plain convolution of a network, by its name."""
    found: dict[str, Kind] = {}

    def note(name: str, conv: nn.Conv2d, images: Tensor) -> None:
        shape, weight = tuple(images.shape[1:]), tuple(conv.weight.shape)
        found[name] = Kind(
            shape,
            weight,
            conv.stride,
            cast("tuple[int, ...]", conv.padding),
            conv.dilation,
            conv.groups,
        )

    hooks = [
        module.register_forward_pre_hook(
            lambda conv, inputs, name=name: note(name, conv, inputs[0])
        )
        for name, module in net.named_modules()
        if type(module) is nn.Conv2d and not isinstance(module.padding, str)
    ]
    was_training = net.training
    try:
        network.embed(net.eval(), torch.zeros(1, 3, *image_size))
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
    return found


def memory_format_of(net: nn.Module) -> torch.memory_format:
    """The memory format of a network's weights."""
    innermost = torch.channels_last
    weights = [weight for weight in net.parameters() if weight.dim() == 4 and weight.shape[1] > 1]
    is_innermost = weights and all(w.is_contiguous(memory_format=innermost) for w in weights)
    return innermost if is_innermost else torch.contiguous_format


def is_right(kind: Kind, layout: torch.memory_format) -> bool:
    """Whether a kind of convolution is right in bfloat16, forward and backward, beside NaN."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        values = torch.randn(shape, generator=random).bfloat16()
        return values.contiguous(memory_format=layout)

    images, weight = draw(TRIED, *kind.maps), draw(*kind.weight)
    options = (None, kind.stride, kind.padding, kind.dilation, kind.groups)
    expected = torch.conv2d(images.float(), weight.float(), *options)
    gradient = draw(*expected.shape)
    exact = both_gradients(gradient.float(), images.float(), weight.float(), kind)
    sizes = [tensor.numel() for tensor in (images, weight, gradient)]
    fill_free_memory(sizes)
    found = torch.conv2d(images, weight, *options)
    fill_free_memory(sizes)
    gradients = both_gradients(gradient, images, weight, kind)
    pairs = zip((found, *gradients), (expected, *exact), strict=True)
    return all(is_near(one, other) for one, other in pairs)


def both_gradients(
    gradient: Tensor, images: Tensor, weight: Tensor, kind: Kind
) -> tuple[Tensor, Tensor]:
    """The gradients of a convolution's input and weight."""
    of_images, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, kind.stride, kind.padding, kind.dilation,
        False, (0, 0), kind.groups, (True, True, False),
    )  # fmt: skip
    return of_images, of_weight


def is_near(one: Tensor, other: Tensor) -> bool:
    """Whether two results differ by rounding alone; NaN is never near."""
    return bool((one.float() - other).abs().max() <= TOLERANCE * other.abs().max())


def fill_free_memory(sizes: Iterable[int]) -> None:
    """Leave NaN in memory that is free, in blocks as a convolution of such tensors takes them.

    Args:
        sizes: numbers of values.
    """
    wanted = (*sizes, *(2 * size for size in sizes), 1 << 12, 1 << 16, 1 << 20)
    blocks = [
        torch.full((size,), torch.nan, dtype=torch.bfloat16)
        for size in wanted
        for _ in range(COPIES)
    ]
    del blocks
