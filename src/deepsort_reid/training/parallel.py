"""One network on several ranks: gradients averaged, batch statistics over all ranks' images."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from deepsort_reid.training.ranks import distributed
from deepsort_reid.training.ranks.distributed import Process


def wrap(net: nn.Module, process: Process, image_size: tuple[int, int]) -> nn.Module:
    """Wrap a network so that gradients are averaged over ranks; the first weights are rank 0's.

    Args:
        net: a `TrainingForward` on this rank's device, its frozen parts in eval mode.
        process: this rank.
        image_size: height and width in pixels.

    Returns:
        the network itself if there is only one rank.
    """
    if process.world_size == 1:
        return net
    # Buffers are averaged once an epoch, by `share_statistics`. Newer torch renamed the option.
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
    """Make DistributedDataParallel order its buckets before the first step.

    It orders them after its first backward pass, and a sum over three or more ranks is rounded
    differently by the place of a number in its bucket. Without this, the first step of a resumed
    training would use other buckets than the same step of an uninterrupted one.
    """
    weight = next(parallel.parameters())
    before = [buffer.clone() for buffer in parallel.buffers()]
    images = torch.zeros(2, 3, *image_size, dtype=weight.dtype, device=weight.device)
    logits, *_ = parallel(images)
    (logits.sum() * 0).backward()
    parallel.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, value in zip(parallel.buffers(), before, strict=True):
            buffer.copy_(value)


def share_weights(net: nn.Module) -> None:
    """Give every rank rank 0's weights, as DistributedDataParallel does."""
    for weight in net.parameters():
        distributed.broadcast_from_first(weight.detach())


def average_gradients(net: nn.Module, world_size: int) -> None:
    """Average over ranks the gradients that a backward pass has left, in a single exchange.

    DistributedDataParallel exchanges them during the pass, but its hooks cannot be recorded in a
    CUDA graph.

    Args:
        net: with gradients for the same weights on every rank.
        world_size: number of ranks.
    """
    if world_size == 1:
        return
    gradients = [weight.grad for weight in net.parameters() if weight.grad is not None]
    together = torch.cat([in_memory_order(gradient) for gradient in gradients]).div_(world_size)
    distributed.sum_over_ranks(together)
    parts = torch.split(together, [gradient.numel() for gradient in gradients])
    torch._foreach_copy_([in_memory_order(gradient) for gradient in gradients], parts)


def in_memory_order(tensor: Tensor) -> Tensor:
    """A view of a dense tensor's memory, (n,), whatever its memory format."""
    return tensor.as_strided((tensor.numel(),), (1,))


def statistics(net: nn.Module) -> Tensor:
    """A copy of all running statistics on the CPU, one after the other, (n,) float."""
    return torch.cat([torch.zeros(0), *(buffer.flatten().cpu() for buffer in running(net))])


def set_statistics(net: nn.Module, values: Tensor) -> None:
    """The inverse of `statistics`."""
    sizes = [buffer.numel() for buffer in running(net)]
    for buffer, value in zip(running(net), torch.split(values, sizes), strict=True):
        buffer.copy_(value.view_as(buffer))


def share_statistics(net: nn.Module, world_size: int) -> None:
    """Average the running statistics of all ranks, so that all of them validate one network."""
    for buffer in running(net):
        distributed.sum_over_ranks(buffer).div_(world_size)


def all_but_statistics(net: nn.Module) -> dict[str, Tensor]:
    """A network's state dict without its running statistics: the same on every rank."""
    return {name: tensor for name, tensor in net.state_dict().items() if not is_running(name)}


def running(net: nn.Module) -> list[Tensor]:
    """The running mean and variance of every batch normalisation, in the network's order.

    Other buffers are constants, such as the angles of rotary positions: a mean of ranks would
    round them.
    """
    return [buffer for name, buffer in net.named_buffers() if is_running(name)]


def is_running(name: str) -> bool:
    """Whether a buffer's name is that of a running mean or variance."""
    return name.rpartition(".")[2] in ("running_mean", "running_var")


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation whose statistics come from every process's images.

    torch.nn.SyncBatchNorm refuses tensors on a CPU; this one takes (B, C, ...) tensors of any
    device and floating dtype, needs one collective forward and one backward, and is a plain
    batch normalisation in eval mode. Batches may differ in size between processes. Parameters
    and buffers have nn.BatchNorm2d's names, so weights go from one to the other.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - nn.BatchNorm's own name
        if input.dim() < 2:
            raise ValueError(f"expected (B, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Module's own name
        """Normalise (B, C, ...) over B and everything after C, of all processes."""
        if not self.training:
            return super().forward(input)
        channels = input.shape[1]
        weight = self.weight if self.affine else input.new_ones(channels)
        bias = self.bias if self.affine else input.new_zeros(channels)
        output, mean, variance, count = _SyncBatchNorm.apply(input, weight, bias, self.eps)
        self.update_running_statistics(mean, variance, count)
        return output  # type: ignore[no-any-return]

    @torch.no_grad()
    def update_running_statistics(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics towards a batch's, as nn.BatchNorm does.

        Args:
            mean: (C,) of the global batch.
            variance: (C,) of the global batch, biased.
            count: () values per channel in the global batch; the variance kept is unbiased.
        """
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # a plain average of all batches
            momentum = 1 / float(self.num_batches_tracked or 1)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


class _SyncBatchNorm(torch.autograd.Function):
    """The arithmetic: Ioffe & Szegedy, "Batch Normalization", ICML 2015, over all ranks.

    The element-wise work is done by torch's fused eval-mode kernels, which take the statistics as
    given; only sums per channel cross the network.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, variance, count = global_statistics(images)
        output = F.batch_norm(images, mean, variance, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(images, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return output, mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        images, weight, mean, variance, count = ctx.saved_tensors
        inverse_std = (variance + ctx.eps).rsqrt()
        # With the statistics held constant: grad * weight / std, and the two sums per channel.
        # CUDA's kernel wants mean and 1 / std as a forward pass would have saved them.
        direct, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, images, weight, mean, variance,
            mean, inverse_std, False, ctx.eps, [True, True, True],
        )  # fmt: skip
        sums = distributed.sum_over_ranks(torch.stack([grad_weight, grad_bias]))
        # What flows through the mean and the variance is linear in x: slope * x + offset.
        slope = -weight * inverse_std.square() * sums[0] / count
        offset = -weight * inverse_std * sums[1] / count - slope * mean
        shape = (1, -1) + (1,) * (images.dim() - 2)
        direct += torch.addcmul(offset.view(shape), images, slope.view(shape))
        # DistributedDataParallel adds up the parameters' gradients: they stay this rank's own.
        return direct, grad_weight, grad_bias, None


def global_statistics(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and count per channel over all processes.

    Combined as Chan, Golub & LeVeque (1979) do, since a sum of squares minus a square of sums
    would lose the digits that matter.

    Args:
        images: (B, C, ...) this process's batch.

    Returns:
        mean (C,), variance (C,), count () of the same dtype (float32 for half precision).
    """
    dims = [dim for dim in range(images.dim()) if dim != 1]
    dtype = torch.promote_types(images.dtype, torch.float32)
    variance, mean = torch.var_mean(images.to(dtype), dim=dims, correction=0)
    count = torch.full_like(mean, images.numel() / images.shape[1])
    counts, means, variances = distributed.gather_over_ranks(
        torch.stack([count, mean, variance])
    ).unbind(1)  # each (world_size, C)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    variance = (counts * (variances + (means - mean).square())).sum(0) / total
    return mean, variance, total[0]


class ThenChildren(nn.Module):
    """A batch normalisation that runs what it contains behind it.

    Those of timm contain dropout and activation.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Module's own name
        """Normalise (B, C, ...), then run the children in their order."""
        output = super().forward(input)
        for child in self.children():
            output = child(output)
        return output  # type: ignore[no-any-return]


class OwnSync(ThenChildren, SyncBatchNorm):
    """This project's."""


class TorchSync(ThenChildren, nn.SyncBatchNorm):
    """torch's, which is the faster one with NCCL and takes GPUs' tensors alone."""


def synchronise_batchnorm(module: nn.Module) -> nn.Module:
    """Replace every batch normalisation of a network, in place where that is possible.

    Returns:
        the network; another object where it is itself a batch normalisation.
    """
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _converted(module)
    for name, child in module.named_children():
        setattr(module, name, synchronise_batchnorm(child))
    return module


def _converted(norm: nn.modules.batchnorm._BatchNorm) -> nn.Module:
    """The synchronised twin of one batch normalisation, sharing its tensors and children."""
    kind = TorchSync if distributed.uses_nccl() else OwnSync
    twin = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    twin.weight, twin.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(twin, name, buffer)
    for name, child in norm.named_children():
        twin.add_module(name, child)
    twin.training = norm.training
    return twin
