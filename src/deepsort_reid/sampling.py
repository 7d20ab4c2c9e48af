"""Which images each rank takes at each step, and reading them ahead of time."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.errors import ConfigError

Indices = NDArray[np.int64]
Batch = TypeVar("Batch")


def steps_per_epoch(count: int, *, batch_size: int, accumulate_steps: int, world_size: int) -> int:
    """How many optimizer steps go over `count` images once.

    A step takes a global batch: batch_size × accumulate_steps × world_size images, or a little
    less, since an epoch's images are dealt out evenly over its steps. So nothing is dropped,
    nothing repeated, and no last batch is too small to normalise.

    Raises:
        ConfigError: some rank would get fewer than two images at a time.
    """
    shares = accumulate_steps * world_size
    steps = -(-count // (batch_size * shares))
    if count // steps // shares < 2:
        raise ConfigError(
            f"nproc_per_node and accumulate_steps make {shares} shares of each step, but the "
            f"training part has {count} images for {steps} step(s): every share needs at least 2; "
            "lower them, or raise batch_size"
        )
    return steps


def plan_epoch(
    count: int,
    steps: int,
    *,
    seed: int,
    epoch: int,
    rank: int,
    world_size: int,
    accumulate_steps: int,
) -> list[tuple[int, list[Indices]]]:
    """Deal an epoch's images out, each to exactly one rank and step, in a new order each epoch.

    Pure: every rank computes its own part of the same plan, and nothing is sent.

    Args:
        count: images in the training part.
        steps: see `steps_per_epoch`.
        seed: draws the order, together with the epoch.
        epoch: counted from 1.
        rank: whose share to return.
        world_size: among how many.
        accumulate_steps: batches a rank takes in a step.

    Returns:
        for each step: how many images its global batch has, and this rank's batches of indices.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    plan = []
    for global_batch in np.array_split(order, steps):
        shares = np.array_split(global_batch, world_size * accumulate_steps)
        plan.append((len(global_batch), shares[rank::world_size]))
    return plan


def plan_validation(count: int, *, batch_size: int, rank: int, world_size: int) -> list[Indices]:
    """This rank's batches of a part that is gone through once, in order, without padding."""
    own = np.arange(rank, count, world_size)
    return [own[first : first + batch_size] for first in range(0, len(own), batch_size)]


class ReadAhead:
    """Reads batches on threads while the network computes, and counts the seconds it was late."""

    def __init__(self, num_workers: int):
        """Use `num_workers` threads, none at all for 0."""
        self.num_workers = num_workers
        self.waited = 0.0  # seconds, since the start

    def __call__(
        self, read: Callable[[Indices], Batch], batches: Iterable[Indices]
    ) -> Iterator[Batch]:
        """Yield `read(batch)` for each batch, in order, at most two a thread ahead."""
        if not self.num_workers:
            yield from (self.timed(partial(read, batch)) for batch in batches)
            return
        pending: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(self.num_workers) as pool:
            for batch in batches:
                pending.append(pool.submit(read, batch))
                if len(pending) > 2 * self.num_workers:
                    yield self.timed(pending.popleft().result)
            while pending:
                yield self.timed(pending.popleft().result)

    def timed(self, wait: Callable[[], Batch]) -> Batch:
        """Call, and add the seconds it took."""
        started = time.perf_counter()
        batch = wait()
        self.waited += time.perf_counter() - started
        return batch


def flatten(plan: Sequence[tuple[int, list[Indices]]]) -> list[Indices]:
    """All batches of a plan, one after the other."""
    return [batch for _, batches in plan for batch in batches]
