"""Which images each rank takes at each step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import ConfigError

Indices = NDArray[np.int64]
BALANCE = 1  # the stream of random numbers that draws images of datasets


@dataclass(frozen=True)
class Step:
    """The images that one rank takes in one optimizer step."""

    size: int  # images that all ranks take together
    batches: list[Indices]  # this rank's batches, one after the other
    widths: list[int]  # for each batch, the most images that any rank takes at the same time


def steps_per_epoch(
    count: int, *, batch_size: int, accumulate_steps: int, world_size: int, num_instances: int = 0
) -> int:
    """How many optimizer steps an epoch of `count` images takes.

    A step takes a global batch: batch_size × accumulate_steps × world_size images, or a little
    less, since an epoch's images are spread evenly over its steps. So no image is dropped or
    repeated, and no last batch is too small for batch normalisation.

    Args:
        count: images of the training part.
        batch_size: images that a rank takes at a time, at most.
        accumulate_steps: batches that a rank takes in a step.
        world_size: number of ranks.
        num_instances: images of an identity that come together in a batch; 0: as it happens.

    Raises:
        ConfigError: some rank would get fewer than two images at a time, or a batch fewer than
            two identities.
    """
    shares = accumulate_steps * world_size
    steps = -(-count // (batch_size * shares))
    if count // steps // shares < 2:
        raise ConfigError(
            f"nproc_per_node and accumulate_steps make {shares} shares of each step, but the "
            f"training part has {count} images for {steps} step(s): every share needs at least 2; "
            "lower them, or raise batch_size"
        )
    batch = count // (steps * accumulate_steps)
    needed = max(2 * num_instances, math.ceil(1.5 * num_instances) + 2 * world_size)
    if num_instances and batch < needed:
        raise ConfigError(
            f"num_instances={num_instances} needs batches of at least {needed} images over all "
            f"processes, but they have {batch}; raise batch_size, or lower num_instances"
        )
    return steps


def plan_epoch(
    labels: NDArray[np.int64],
    steps: int,
    *,
    seed: int,
    epoch: int,
    rank: int,
    world_size: int,
    accumulate_steps: int,
    num_instances: int = 0,
) -> list[Step]:
    """Give each image of an epoch to exactly one rank and step, in a new order each epoch.

    Every rank computes its own part of the same plan, and nothing is sent.

    Args:
        labels: (N,) the identity of each image of the training part.
        steps: see `steps_per_epoch`.
        seed: draws the order, together with the epoch.
        epoch: counted from 1.
        rank: the rank whose share is returned.
        world_size: number of ranks.
        accumulate_steps: batches that a rank takes in a step.
        num_instances: images of an identity that come together; 0: as it happens.
    """
    rng = np.random.default_rng([seed, epoch])
    if num_instances:
        groups = groups_of_identities(labels, num_instances, rng)
    else:
        groups = list(rng.permutation(len(labels))[:, None])
    batches = cut_evenly(groups, steps * accumulate_steps)
    plan = []
    for first in range(0, len(batches), accumulate_steps):
        of_step = batches[first : first + accumulate_steps]
        shares = [np.array_split(batch, world_size) for batch in of_step]
        plan.append(
            Step(
                size=sum(len(batch) for batch in of_step),
                batches=[of_ranks[rank] for of_ranks in shares],
                widths=[len(of_ranks[0]) for of_ranks in shares],
            )
        )
    return plan


def balanced(sources: Sequence[str], *, seed: int, epoch: int) -> Indices:
    """Draw an epoch's images so that each dataset has as many.

    A dataset with fewer images than its share is taken several times, one with more in part. The
    next epoch draws anew.

    Args:
        sources: (N,) the dataset of each image.
        seed: draws the images, together with the epoch.
        epoch: counted from 1.

    Returns:
        (N,) indices of images.
    """
    rng = np.random.default_rng([seed, epoch, BALANCE])
    _, numbers = np.unique(np.asarray(sources), return_inverse=True)
    shares = np.array_split(np.arange(len(numbers)), numbers.max() + 1)
    drawn = []
    for number, share in enumerate(shares):
        own = np.flatnonzero(numbers == number)
        passes = -(-len(share) // len(own))
        drawn.append(np.concatenate([rng.permutation(own) for _ in range(passes)])[: len(share)])
    return np.concatenate(drawn)


def groups_of_identities(
    labels: NDArray[np.int64], num_instances: int, rng: np.random.Generator
) -> list[Indices]:
    """Group each identity's images by about `num_instances`, and shuffle the groups.

    A batch of such groups is the P identities with K images each of Hermans et al., "In Defense of
    the Triplet Loss for Person Re-Identification", 2017. Here each image is in exactly one group:
    where identities have few or odd numbers of images, groups are up to half larger or smaller.
    Groups of one identity lie as far apart as they can, so that they are seldom in one batch.
    """
    placed: list[tuple[float, Indices]] = []
    of_identities = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    for own in of_identities:
        images = rng.permutation(own)
        count = max(1, round(len(images) / num_instances))
        places = (np.arange(count) + rng.random()) / count
        placed += zip(places.tolist(), np.array_split(images, count), strict=True)
    return [images for _, images in sorted(placed, key=lambda item: item[0])]


def cut_evenly(groups: Sequence[Indices], count: int) -> list[Indices]:
    """Join groups, in their order, to `count` batches that are as even as whole groups allow."""
    ends = np.cumsum([len(group) for group in groups])
    middles = ends - np.array([len(group) for group in groups]) / 2
    cuts = np.searchsorted(middles, ends[-1] * np.arange(1, count) / count)
    order = np.concatenate(groups)
    return np.split(order, np.concatenate([[0], ends])[cuts])


def plan_validation(count: int, *, batch_size: int, rank: int, world_size: int) -> list[Indices]:
    """A rank's batches of a part that all ranks read once, in order, without padding.

    Args:
        count: images of the part.
        batch_size: images at a time, at most.
        rank: the rank whose batches are returned.
        world_size: number of ranks.
    """
    own = np.arange(rank, count, world_size)
    return [own[first : first + batch_size] for first in range(0, len(own), batch_size)]


def flatten(plan: Sequence[Step]) -> list[Indices]:
    """All batches of a plan, one after the other."""
    return [batch for step in plan for batch in step.batches]
