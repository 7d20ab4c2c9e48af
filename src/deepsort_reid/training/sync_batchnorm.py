"""Batch normalisation over the batches of all processes, on any device."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepsort_reid.training import distributed


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
        output, mean, variance, count = _SyncBatchNorm.apply(
            input, self.weight, self.bias, self.eps
        )
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
        momentum = 0.1 if self.momentum is None else self.momentum
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
        # With the statistics held constant: grad * weight / std, and the two sums per channel.
        direct, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, images, weight, mean, variance,
            None, None, False, ctx.eps, [True, True, True],
        )  # fmt: skip
        sums = distributed.sum_over_ranks(torch.stack([grad_weight, grad_bias]))
        # What flows through the mean and the variance is linear in x: slope * x + offset.
        inverse_std = (variance + ctx.eps).rsqrt()
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


def convert(module: nn.Module) -> nn.Module:
    """Replace every batch normalisation by a synchronised one, in place where it can.

    NCCL brings torch.nn.SyncBatchNorm, which is faster there; elsewhere it is ours.
    """
    if distributed.uses_nccl():
        twin: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return twin
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _converted(module)
    for name, child in module.named_children():
        setattr(module, name, convert(child))
    return module


def _converted(norm: nn.modules.batchnorm._BatchNorm) -> SyncBatchNorm:
    """The synchronised twin of one batch normalisation, sharing its tensors."""
    twin = SyncBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine)
    twin.weight, twin.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers():
        setattr(twin, name, buffer)
    twin.training = norm.training
    return twin
