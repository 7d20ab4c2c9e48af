"""The kinds of fault: what can become of a valid file."""

import io
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

EDGES = 2048  # bytes at either end of a file, where headers and directories stand


def flipped(data: bytes, rng: Random) -> bytes:
    """One bit flipped, or up to eight."""
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        damaged[position(len(data), rng)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def truncated(data: bytes, rng: Random) -> bytes:
    """Cut short, or its beginning lost."""
    at = position(len(data), rng)
    return data[:at] if rng.random() < 0.8 else data[at + 1 :]


def exchanged(data: bytes, rng: Random) -> bytes:
    """Two blocks of it changed places."""
    size = rng.choice([1, 16, 512, 4096])
    size = min(size, len(data) // 2)
    first = min(position(len(data), rng), len(data) - 2 * size)
    second = rng.randrange(first + size, len(data) - size + 1)
    return b"".join(
        (
            data[:first],
            data[second : second + size],
            data[first + size : second],
            data[first : first + size],
            data[second + size :],
        )
    )


def zeroed(data: bytes, rng: Random) -> bytes:
    """A block of zeros where data should be, as a crash of the machine leaves it."""
    first = position(len(data), rng)
    last = min(len(data), first + rng.choice([1, 64, 4096, len(data)]))
    return data[:first] + bytes(last - first) + data[last:]


def position(length: int, rng: Random) -> int:
    """A place in a file: half of the time where its headers stand."""
    start = rng.choice([0, 0, 0, max(0, length - EDGES)])
    end = rng.choice([length, min(length, start + EDGES)])
    return rng.randrange(start, end)


@dataclass(frozen=True)
class Evil:
    """Makes a folder when it is unpickled."""

    marker: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def malicious(marker: Path) -> Iterator[bytes]:
    """Pickles that make the folder `marker` when they are loaded, bare and in every wrapping."""
    evil = Evil(marker)
    for protocol in (0, 2, 4):
        yield pickle.dumps(evil, protocol)
        yield pickle.dumps({"net_dict": {"a": evil}, "run_id": evil}, protocol)
    for content in (evil, {"net_dict": {"conv1.weight": evil}}, [evil]):
        for as_zip in (True, False):
            yield written(torch.save, content, as_zip)
    for pickled in (np.array([evil], dtype=object), np.array([[[[evil] * 3]]], dtype=object)):
        file = io.BytesIO()
        np.save(file, pickled, allow_pickle=True)
        yield file.getvalue()


def written(save: Callable[..., None], content: object, as_zip: bool) -> bytes:
    """What torch.save writes, in its newer or its older format."""
    file = io.BytesIO()
    save(content, file, _use_new_zipfile_serialization=as_zip)
    return file.getvalue()


RANDOM: dict[str, Callable[[bytes, Random], bytes]] = {
    "bits flipped": flipped,
    "truncated": truncated,
    "swapped": exchanged,
    "emptied": zeroed,
}
KINDS = (*RANDOM, "malicious pickle", "bomb")
