"""All machines of a training hold the same data, parameters and code, or it does not begin.

Otherwise the ranks would average the gradients of two trainings, and the checkpoint would be the
result of neither.
"""

import json
import socket
from dataclasses import replace

import torch

from deepsort_reid.core.errors import TrainingError
from deepsort_reid.training import distributed
from deepsort_reid.training.distributed import Process
from deepsort_reid.training.fingerprint import Fingerprint, differences

WORD_BYTES = 400  # of what a rank has to say
REMEDY = "bring the same commit, params.yaml and data/split to every machine (git pull, dvc pull)"


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
    own = f"rank {process.rank} on {socket.gethostname()}" if reasons or process.is_first else ""
    first, *others = words_of_all(f"{own} says: {reasons[0]}" if reasons else own)
    if found := [word for word in others if word]:
        more = f", and {len(found) - 1} more" if found[1:] else ""
        raise TrainingError(f"not all ranks agree with {first}: {found[0]}{more}; {REMEDY}")


def words_of_all(word: str) -> list[str]:
    """Each rank's word, cut off where it is long, in the order of ranks."""
    padded = word.encode()[:WORD_BYTES].ljust(WORD_BYTES, b"\0")
    gathered = distributed.gather_on_cpu(torch.frombuffer(bytearray(padded), dtype=torch.uint8))
    words = (bytes(row.tolist()).rstrip(b"\0") for row in gathered)
    return [found.decode(errors="ignore") for found in words]
