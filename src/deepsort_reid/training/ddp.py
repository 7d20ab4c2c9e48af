"""One network on several ranks: its gradients averaged, its running statistics shared."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deepsort_reid.training import distributed
from deepsort_reid.training.distributed import Process


def in_parallel(net: nn.Module, process: Process, image_size: tuple[int, int]) -> nn.Module:
    """Wrap a network so that gradients are averaged over ranks; the first weights are rank 0's.

    Args:
        net: a `model.Taught` on its rank's device, its frozen parts in eval mode.
        process: this rank.
        image_size: height and width in pixels.

    Returns:
        the network itself where there is one rank only.
    """
    if process.world_size == 1:
        return net
    # `share_statistics` says what becomes of the buffers. Newer torch has renamed the option.
    options = inspect.signature(DistributedDataParallel).parameters
    new, old = "forward_sync_buffers", "broadcast_buffers"
    no_broadcast: dict[str, Any] = {new if new in options else old: False}
    parallel = DistributedDataParallel(
        net,
        device_ids=[process.device] if process.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **no_broadcast,
    )
    settle_buckets(parallel, image_size)
    return parallel


def settle_buckets(parallel: DistributedDataParallel, image_size: tuple[int, int]) -> None:
    """Let DistributedDataParallel put its buckets in order before the first step.

    It does so after its first pass backward, and a sum over three ranks or more rounds by where a
    number lies in its bucket. A training that goes on from a state would otherwise make its first
    step with other buckets than one that was not interrupted, and end in other bits.
    """
    weight = next(parallel.parameters())
    before = [buffer.clone() for buffer in parallel.buffers()]
    nothing = torch.zeros(2, 3, *image_size, dtype=weight.dtype, device=weight.device)
    logits, _ = parallel(nothing)
    (logits.sum() * 0).backward()
    parallel.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, value in zip(parallel.buffers(), before, strict=True):
            buffer.copy_(value)


def statistics(net: nn.Module) -> Tensor:
    """A copy of the running statistics of all batch normalisations, one after the other, (n,)."""
    return torch.cat([torch.zeros(0), *(buffer.flatten().cpu() for buffer in running(net))])


def set_statistics(net: nn.Module, values: Tensor) -> None:
    """The inverse of `statistics`."""
    sizes = [buffer.numel() for buffer in running(net)]
    for buffer, value in zip(running(net), torch.split(values, sizes), strict=True):
        buffer.copy_(value.view_as(buffer))


def share_statistics(net: nn.Module, world_size: int) -> None:
    """Average the running statistics that ranks have kept apart, so that all validate one net."""
    for buffer in running(net):
        distributed.sum_over_ranks(buffer).div_(world_size)


def all_but_statistics(net: nn.Module) -> dict[str, Tensor]:
    """The rest of a network's state dict: what is the same on every rank at any time."""
    names = {name for name, buffer in net.named_buffers() if buffer.is_floating_point()}
    return {name: tensor for name, tensor in net.state_dict().items() if name not in names}


def running(net: nn.Module) -> list[Tensor]:
    """The running statistics, in the network's order."""
    return [buffer for buffer in net.buffers() if buffer.is_floating_point()]
