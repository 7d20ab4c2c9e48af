"""All machines of a training hold the same data, parameters and code, or it does not begin.

Otherwise the ranks would average the gradients of two trainings, and the checkpoint would be the
result of neither.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch

from deepsort_reid.core.config import TrainConfig
from deepsort_reid.core.errors import DeepSortReidError, TrainingError
from deepsort_reid.core.launch import Launch
from deepsort_reid.training.fingerprint import Fingerprint, differences
from deepsort_reid.training.ranks import distributed
from deepsort_reid.training.ranks.distributed import Process

WORD_BYTES = 400  # of what a rank has to say
REMEDY = "bring the same commit, params.yaml and data/split to every machine (git pull, dvc pull)"


def check_number(config: TrainConfig, launch: Launch) -> None:
    """Refuse another number of processes than params.yaml states, since the result depends on it.

    Raises:
        TrainingError: the launcher has started more or fewer.
    """
    if launch.world_size != config.world_size:
        raise TrainingError(
            f"{launch.world_size} processes were started, but params.yaml says nnodes: "
            f"{config.nnodes} and nproc_per_node: {config.nproc_per_node}, {config.world_size} "
            "together; the result depends on their number: start as many, or state it there"
        )


def check_agreement(made_of: Fingerprint, process: Process) -> None:
    """Compare what every rank would train with rank 0's; every rank must call this.

    Environments may differ: machines of two kinds can train together, but to other bytes.

    Args:
        made_of: this rank's.
        process: this rank.

    Raises:
        TrainingError: some rank's data, parameters or code are others; on every rank, in one line
            that names the machines.
    """
    if process.world_size == 1:
        return
    here = replace(made_of, environment={})
    there = Fingerprint.from_plain(
        json.loads(distributed.share_from_first(json.dumps(here.as_plain()).encode()))
    )
    reasons = differences(there, here)
    own = place(process) if reasons or process.is_first else ""
    first, *others = words_of_all(f"{own} says: {reasons[0]}" if reasons else own)
    if found := [word for word in others if word]:
        more = f", and {len(found) - 1} more" if found[1:] else ""
        raise TrainingError(f"not all ranks agree with {first}: {found[0]}{more}; {REMEDY}")


def check_recorder(process: Process, environ: Mapping[str, str]) -> None:
    """Refuse a training whose checkpoint is written on another machine than DVC would record it.

    Raises:
        TrainingError: DVC runs this rank's machine, and rank 0 is elsewhere.
    """
    if "DVC_STAGE" in environ and process.rank != process.local_rank:
        raise TrainingError(
            "DVC runs the stage here, but rank 0, which writes the checkpoint, is on another "
            "machine; run DVC there, or number the machines (PET_NODE_RANK)"
        )


@contextmanager
def succeeding_together(process: Process) -> Iterator[None]:
    """Let every rank prepare in the block; where one fails, all end, and say where and why.

    Raises:
        DeepSortReidError, OSError: this rank's own failure.
        TrainingError: another rank's.
    """
    failure: DeepSortReidError | OSError | None = None
    try:
        yield
    except (DeepSortReidError, OSError) as error:
        failure = error
    with distributed.patient():
        words = words_of_all(f"{place(process)}: {failure}" if failure else "")
    if failure:
        raise failure
    if found := [word for word in words if word]:
        more = f"; {len(found) - 1} more cannot either" if found[1:] else ""
        raise TrainingError(f"another rank cannot train: {found[0]}{more}")


def place(process: Process) -> str:
    """A rank, and the machine it runs on, in words."""
    return f"rank {process.rank} on {socket.gethostname()}"


def words_of_all(word: str) -> list[str]:
    """Each rank's word, cut off where it is long, in the order of ranks."""
    padded = word.encode()[:WORD_BYTES].ljust(WORD_BYTES, b"\0")
    gathered = distributed.gather_on_cpu(torch.frombuffer(bytearray(padded), dtype=torch.uint8))
    words = (bytes(row.tolist()).rstrip(b"\0") for row in gathered)
    return [found.decode(errors="ignore") for found in words]
