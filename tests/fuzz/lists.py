"""The lists and labels that published datasets ship with, as targets."""

import re
from pathlib import Path

from deepsort_reid.core.dataset_config import SourceConfig
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.lists import read_list
from deepsort_reid.data.layouts.published.cityflow import read_items
from tests.fuzz.harness import Target
from tests.support.datasets import InMemory, mot_config


def lists() -> list[Target]:
    """A list of images and identities, and labels in XML."""
    lines = [f"{k % 3:04}/{k % 3:04}_{k:03}_01_0303morning_0008_{k}.jpg {k % 3}" for k in range(9)]
    items = [f'<Item imageName="{k:06}.jpg" vehicleID="{k // 2:04}" cameraID="c{k % 2 + 1:03}" />'
             for k in range(8)]  # fmt: skip
    head = '<?xml version="1.0" encoding="gb2312"?>\n<!-- 车 -->\n'
    labels = [(head + "\n".join(chosen)).encode("gb2312") for chosen in (items, items[:3])]
    claims = {
        "blanks": b" " * 20_000_000, "lines": b"\n" * 20_000_000, "letters": b"x" * 20_000_000,
        "values": b"1 " * 10_000_000, "items": b"<Item " * 4_000_000,
        "attributes": b"<Item " + b'a="' * 6_000_000,
    }  # fmt: skip
    return [
        Target("list of images", "list_train.txt", [encoded(lines), encoded(lines[:4])], read_rows,
               says=read_rows_plainly, checksums=False, bombs=claims),
        Target("labels of images", "train_label.xml", labels, read_labels,
               says=read_labels_plainly, checksums=False, bombs=claims),
    ]  # fmt: skip


def encoded(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def opened(path: Path) -> Files:
    """The file as the only member of an archive that bears the path's name."""
    archive = InMemory({str(path): path.read_bytes()})
    source = SourceConfig(name="test", source="a.zip")
    return Files(archive, archive.names(), [], source, mot_config())  # type: ignore[arg-type]


def read_rows(path: Path) -> object:
    lines = read_list(opened(path), str(path), "path pid")
    return [(line.values[0], line.number(1, "identity")) for line in lines]


def read_rows_plainly(data: bytes) -> object:
    """The same, by what stands first and second."""
    text = data.decode("utf-8-sig").replace("\r", "\n")
    rows = [line.split() for line in text.split("\n") if line.strip()]
    return [(row[0], int(row[1])) for row in rows]


def read_labels(path: Path) -> object:
    items = read_items(opened(path), str(path))
    return [(item.values[0], item.number(1, "vehicle"), item.number(2, "camera")) for item in items]


def read_labels_plainly(data: bytes) -> object:
    """The same, attribute by attribute."""
    found = []
    for item in re.findall(r"<Item\b([^<>]*)>", data.decode("gb18030")):
        name, vehicle, camera = (re.findall(rf'\b{key}\s*=\s*"([^"<>]*)"', item)[-1]
                                 for key in ("imageName", "vehicleID", "cameraID"))  # fmt: skip
        found.append((name, int(vehicle), int(camera.lstrip("c"))))
    return found
