"""How large a network is, and how much it computes: numbers that are the same on every machine."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from deepsort_reid.model import network
from deepsort_reid.model.embed import deployed


def embedding_weights(net: nn.Module) -> int:
    """The trained numbers that an embedding takes: all but the classifier's.

    Args:
        net: a network of `network.build`.
    """
    return sum(weight.numel() for weight in network.without_classifier(net).parameters())


def multiply_adds(net: nn.Module, image_size: tuple[int, int]) -> int:
    """Multiplications, each with its addition, for the embedding of one image.

    This is what papers on re-identification call FLOPs of a network (OSNet ×1.0: 0.98 billion at
    256×128). torch counts the two operations apart, so its number is twice as large. Those of
    convolutions, linear layers and attention are counted, of the network as it is deployed.

    Args:
        net: a network of `network.build`, in eval mode on the CPU; it stays as it is.
        image_size: height and width in pixels.
    """
    bare = deployed(network.without_classifier(net))
    weight = next(bare.parameters())
    image = torch.zeros(1, 3, *image_size, dtype=weight.dtype)
    # Attention as products of matrices: the counter does not know the CPU's kernel for it.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        network.embed(bare, image)
    return int(counter.get_total_flops()) // 2
