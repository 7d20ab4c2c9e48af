"""The batches of this rank, on its device, in the steps that all ranks take together."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from deepsort_reid.core.config import TrainConfig
from deepsort_reid.data.loading import sampler
from deepsort_reid.data.loading.augment import uniforms
from deepsort_reid.data.loading.loader import Loader, Prefetcher
from deepsort_reid.data.loading.sampler import Indices, flatten, plan_epoch, plan_validation
from deepsort_reid.data.packed import Part
from deepsort_reid.data.samples import source_of

VAL_FACTOR = 4  # validation batches over training batches: without gradients there is more room


@dataclass(frozen=True)
class Batch:
    """Images that one rank takes through the network at a time."""

    images: Tensor  # (B, H, W, 3) uint8, on the device as the others
    labels: Tensor  # (B,) int64
    draws: Tensor  # (B, DRAWS) float64: the random numbers of each image's augmentation
    global_size: int  # images of all ranks in the step
    width: int  # the largest B among the ranks
    is_last: bool  # of its step


class TrainBatches:
    """The training part, dealt out anew each epoch.

    Attributes:
        steps: optimizer steps of an epoch.
        waited: seconds spent waiting for images, since the start.
    """

    def __init__(
        self,
        part: Part,
        config: TrainConfig,
        *,
        device: torch.device,
        rank: int,
        world_size: int,
    ):
        """Copy the images to a GPU that has room for them.

        Args:
            part: the training part.
            config: batch size, accumulation, instances, seed and workers.
            device: receives the batches.
            rank: whose batches.
            world_size: number of ranks.

        Raises:
            ConfigError: there are too many ranks for the images, or too few identities a batch.
        """
        self.part, self.config = part, config
        self.rank, self.world_size = rank, world_size
        self.steps = sampler.steps_per_epoch(
            len(part),
            batch_size=config.batch_size,
            accumulate_steps=config.accumulate_steps,
            world_size=world_size,
            num_instances=config.num_instances,
        )
        self._loader = Loader(part, device)
        self._prefetcher = Prefetcher(config.num_workers)
        self._sources = list(map(source_of, part.names)) if config.balance_sources else []
        self._planned: tuple[int, list[sampler.Step]] = (0, [])

    @property
    def waited(self) -> float:
        """Seconds spent waiting for images, since the start."""
        return self._prefetcher.waited

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[int, Iterator[Batch]]]:
        """Yield each step's images over all ranks, and this rank's batches in it.

        A step's batches must be used up before the next step is taken.

        Args:
            epoch: counted from 1.
            first: the first step, counted from 0.
        """
        steps = self._plan(epoch)[first:]
        read = partial(self._read, epoch=epoch, drawn=self._draw(epoch))
        contents = self._prefetcher(read, flatten(steps))
        for step in steps:
            if step is steps[-1] and epoch < self.config.epochs:
                self._plan(epoch + 1)  # while a GPU is still busy
            batches = (
                self._place(content, step, number)
                for number, content in enumerate(islice(contents, len(step.batches)))
            )
            yield step.size, batches

    def _plan(self, epoch: int) -> list[sampler.Step]:
        """What this rank takes in each step of an epoch; the last plan is kept."""
        if self._planned[0] != epoch:
            drawn = self._draw(epoch)
            plan = plan_epoch(
                self.part.labels if drawn is None else self.part.labels[drawn],
                self.steps,
                seed=self.config.seed,
                epoch=epoch,
                rank=self.rank,
                world_size=self.world_size,
                accumulate_steps=self.config.accumulate_steps,
                num_instances=self.config.num_instances,
            )
            self._planned = (epoch, plan)
        return self._planned[1]

    def _draw(self, epoch: int) -> Indices | None:
        """The images that an epoch takes instead of all; None where it takes each once."""
        if not self.config.balance_sources:
            return None
        return sampler.balanced(self._sources, seed=self.config.seed, epoch=epoch)

    def _read(self, places: Indices, *, epoch: int, drawn: Indices | None) -> tuple[Tensor, ...]:
        """Read a batch into the CPU's memory, on a thread that reads ahead.

        Args:
            places: (B,) places in the epoch, of which each has random numbers of its own.
            epoch: counted from 1.
            drawn: the image at each place; None where these are the images' numbers.
        """
        draws = uniforms(self.config.seed, epoch, places)
        indices = places if drawn is None else drawn[places]
        return *self._loader.read(indices), self._loader.sendable(draws)

    def _place(self, content: tuple[Tensor, ...], step: sampler.Step, number: int) -> Batch:
        """Bring a batch to the device."""
        wanted, labels, draws = content
        return Batch(
            self._loader.place(wanted),
            self._loader.send(labels),
            self._loader.send(draws),
            global_size=step.size,
            width=step.widths[number],
            is_last=number == len(step.widths) - 1,
        )


class ValBatches:
    """The validation part, each image on exactly one rank and none padded.

    Attributes:
        steps: batches that the ranks take at the same time; some ranks have none in the last.
    """

    def __init__(
        self, part: Part, config: TrainConfig, *, device: torch.device, rank: int, world_size: int
    ):
        """Copy the images to a GPU that has room for them; see `TrainBatches`."""
        self.batch_size = VAL_FACTOR * config.batch_size
        self._part, self._global_size = part, self.batch_size * world_size
        self.steps = -(-len(part) // self._global_size)
        self._plan = plan_validation(
            len(part), batch_size=self.batch_size, rank=rank, world_size=world_size
        )
        self._loader = Loader(part, device)
        self._num_workers = config.num_workers

    def __call__(self, first: int = 0) -> Iterator[tuple[int, Iterator[tuple[Tensor, Tensor]]]]:
        """Yield each step's images over all ranks, and this rank's batch in it, if it has one.

        A batch is (B, H, W, 3) uint8 images and (B,) int64 labels on the device. It must be used
        up before the next step is taken.

        Args:
            first: the first step, counted from 0.
        """
        contents = Prefetcher(self._num_workers)(self._loader.read, self._plan[first:])
        for step in range(first, self.steps):
            done = step * self._global_size
            batches = (
                (self._loader.place(wanted), self._loader.send(labels))
                for wanted, labels in islice(contents, 1)
            )
            yield min(self._global_size, len(self._part) - done), batches
