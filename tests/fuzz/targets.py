"""Every kind of file that the project reads, and what reads it.

A new target is one entry of `targets`: valid files, what reads one, and, where the format has no
checksums, another way to tell what its bytes say.
"""

import bz2
import csv
import gzip
import hashlib
import io
import json
import logging
import lzma
import pickle
import re
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from ruamel.yaml import YAML
from safetensors.torch import load, save

from deepsort_reid.core import files
from deepsort_reid.core.config import load_params
from deepsort_reid.core.errors import DeepSortReidError
from deepsort_reid.data import decode, packed
from deepsort_reid.data.samples import NO_CAMERA, Sample
from deepsort_reid.data.split import count
from deepsort_reid.evaluation.threshold import read_threshold
from deepsort_reid.model import checkpoint, network
from deepsort_reid.model.pretrained.reading import read_state_dicts
from deepsort_reid.runs import logger
from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.points import Point, Points
from deepsort_reid.search.space import read_space
from deepsort_reid.sources.archive import Archive
from deepsort_reid.training.checkpointer import States
from deepsort_reid.training.fingerprint import Fingerprint
from tests.fuzz import bombs
from tests.fuzz.annotations import annotations
from tests.fuzz.faults import written
from tests.fuzz.harness import Target
from tests.fuzz.lists import lists
from tests.support import datasets

SIZE = (32, 16)  # height and width of every image
ROOT = Path(__file__).parents[2]


def targets(folder: Path) -> list[Target]:
    """All targets; `folder` is for what has to be made on a disk."""
    pretrained = weights()
    return [
        *archives(),
        *images(),
        *annotations(),
        *lists(),
        *tables(),
        params(),
        search_space(),
        *pretrained,
        trained(folder, bombs=pretrained[0].bombs),
        *parts(folder),
        resume_state(folder, bombs=pretrained[0].bombs),
        run_curves(folder),
        run_report(),
        report(),
        threshold_report(),
    ]


# Archives


def archives() -> list[Target]:
    """Zip and tar, plain and compressed; only a plain tar has no checksums of its contents."""
    one = {f"id{n}/c{k}_Zoë.png": picture(40 * n + k) for n in range(3) for k in (1, 2)}
    two = {f"id{n}/{k}.png": picture(9 * n + k) for n in range(2) for k in (3, 4)}
    many = {f"{number}.png": b"" for number in range(40_000)}
    zeros = {f"{number}.png": bytes(4 << 20) for number in range(8)}
    nested = {"a/1.zip": bombs.deflated_zip(zeros)}
    zip_bombs = {
        "a thousandfold": bombs.deflated_zip(zeros),
        "overlapping": bombs.overlapping_zip("a.png", bytes(10 << 20), 300),
        "within another": bombs.deflated_zip({"a.zip": bombs.deflated_zip(nested)} | zeros),
    }
    tar_bombs = {
        "a thousandfold": gzip.compress(bombs.tar(zeros)),
        "many empty members": gzip.compress(bombs.tar(many)),
        "a long name": bombs.tar({"n" * 1_000_000: b""}),
        "a longer name": gzip.compress(bombs.tar({"n" * 10_000_000: b""})),
        "padding": gzip.compress(bombs.tar({"a.png": b""}) + bytes(20 << 20)),
        "not even a tar": gzip.compress(bytes(20 << 20)),
        "gzip in gzip": gzip.compress(gzip.compress(bombs.tar(one))),
    }
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress,
    }  # fmt: skip
    tars = [bombs.tar(contents) for contents in (one, two)]
    return [
        Target("archive, zip", "dataset.zip", [bombs.deflated_zip(one), stored_zip(two)],
               read_archive, says=read_archive_plainly, bombs=zip_bombs),
        Target("archive, tar", "dataset.tar", tars, read_archive, says=read_archive_plainly,
               checksums=False, bombs=tar_bombs),
        *(Target(f"archive, {kind}", f"dataset.{kind}", [compress(tar) for tar in tars],
                 read_archive, says=read_archive_plainly,
                 bombs={"a thousandfold": compress(bombs.tar(zeros))})
          for kind, compress in compressors.items()),
    ]  # fmt: skip


def stored_zip(contents: Mapping[str, bytes]) -> bytes:
    """A zip, not compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def read_archive(path: Path) -> object:
    """Names and contents, as the stages download and split read them."""
    archive = Archive(path)
    archive.check()
    return {name: digest(content) for name, content in archive.read(archive.names())}


def read_archive_plainly(data: bytes) -> object:
    """Names and contents by the libraries alone, and of a tar by the offsets of POSIX.1-1988."""
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return visible({name: digest(archive.read(name)) for name in archive.namelist()})
    for magic, library in {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ": lzma}.items():
        if data.startswith(magic):
            data = library.decompress(data)
    found: dict[str, str] = {}
    at, extended = 0, {}
    while header := data[at : at + 512].rstrip(b"\0"):
        name = header[:100].rstrip(b"\0").decode()
        size = int(header[124:136].rstrip(b"\0 ") or b"0", 8)
        kind, content = header[156:157], data[at + 512 : at + 512 + size]
        at += 512 + -(-size // 512) * 512
        if kind == b"x":
            extended = dict(re.findall(r"[0-9]+ ([^=\n]+)=(.*)\n", content.decode()))
            continue
        name, extended = extended.get("path", name), {}
        found["/".join(part for part in name.split("/") if part)] = digest(content)
    return visible(found)


def visible(contents: Mapping[str, str]) -> Mapping[str, str]:
    """What is not hidden."""
    return {name: c for name, c in contents.items() if not f"/{name}".count("/.")}


# Images


def images() -> list[Target]:
    """Images of every format that a dataset may hold; PNG alone has checksums."""
    formats = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP",
               "gif": "GIF", "ppm": "PPM", "avif": "AVIF", "jp2": "JPEG2000",
               "qoi": "QOI"}  # fmt: skip
    claims = bombs.images()
    return [
        Target(
            f"image, {kind}",
            f"a.{suffix}",
            [picture(shade, kind) for shade in (60, 170)],
            read_image,
            says=read_image_plainly,
            checksums=kind == "PNG",
            bombs=claims if kind == "PNG" else {},
        )
        for suffix, kind in formats.items()
    ]  # fmt: skip


def picture(shade: int, kind: str = "PNG") -> bytes:
    """An image that is not one colour: a gradient up to a shade."""
    gradient = Image.linear_gradient("L").resize((20, 40)).point(lambda value: value * shade // 255)
    return bombs.encoded(Image.merge("RGB", (gradient, gradient.rotate(180), gradient)), kind)


class OneImage:
    """An archive of one file."""

    def __init__(self, name: str, data: bytes):
        self.name, self.data = name, data

    def read(self, names: Collection[str]) -> Generator[tuple[str, bytes], None, None]:
        for name in names:
            yield name, self.data


def read_image(path: Path) -> object:
    """The pixels that stage split makes of an image."""
    array = path.with_name("decoded.npy")
    source = OneImage(path.name, path.read_bytes())
    sample = Sample(path.name, "a", 1, NO_CAMERA, "any")
    losses = decode.decode(source, {"any": [sample]}, {"any": array}, SIZE)
    decode.check_unreadable(losses.unreadable, allowed=0)
    return digest(np.load(array).tobytes())


def read_image_plainly(data: bytes) -> object:
    """The pixels of an image by Pillow alone, without our precautions."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            upright = Image.fromarray((np.asarray(upright) / 256).astype(np.uint8))
        rgb = upright.convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR)
    return digest(np.asarray(rgb).tobytes())


# Tables that say who is on which image


def tables() -> list[Target]:
    """CSV and TSV, read as layout `table` reads them."""
    head = ["path", "identity", "camera", "part", "frame", "box", "note"]
    rows = [[f"img/{k}.png", f"id {k % 3}", str(k % 2 + 1), "train", str(7 * k), "1 2 8 16", "x, y"]
            for k in range(6)]  # fmt: skip
    claims = {
        "an open quotation mark": b'path,identity\n"' + b"img/0.png," * 200_000,
        "a long line": b"path,identity\nimg/0.png," + b"a" * 5_000_000,
        "many columns": b"path,identity," + b",".join(b"c%d" % n for n in range(100_000)),
        "many lines": b"path,identity\n" + b"img/9.png,a\n" * 200_000,
    }
    return [
        Target("table of images, CSV", "labels.csv", [csv_of([head, *rows], ",")], read_table,
               says=lambda data: table_plainly(data, ","), checksums=False, bombs=claims),
        Target("table of images, TSV", "labels.tsv", [csv_of([head, *rows], "\t")], read_table,
               says=lambda data: table_plainly(data, "\t"), checksums=False, bombs=claims),
    ]  # fmt: skip


def csv_of(rows: list[list[str]], delimiter: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def read_table(path: Path) -> object:
    """Everything that the samples of a table say."""
    contents = {f"img/{k}.png": b"" for k in range(6)} | {path.name: path.read_bytes()}
    dataset = datasets.read_files(contents, table=path.name)
    return [(s.name, s.identity, s.camid, s.role, s.frame, s.crop and s.crop.ltwh, s.extra[1:])
            for s in dataset.samples]  # fmt: skip


def table_plainly(data: bytes, delimiter: str) -> object:
    """The same, row by row; a column whose name was damaged is a further one."""
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig")), delimiter=delimiter))
    known = ("path", "identity", "camera", "part", "frame", "box")
    names = sorted({row["camera"].strip() for row in rows if "camera" in row})
    numbers = {name: place for place, name in enumerate(names, start=1)}
    if all(name.isdigit() for name in names):
        numbers = {name: int(name) for name in names}
    found = []
    for row in rows:
        plain = {name: value.strip() for name, value in row.items()}
        part = plain.get("part", "any").lower()
        if part == "ignore":
            continue
        words = re.split(r"[\s,;]+", plain.get("box", "").strip("[]() "))
        box = tuple(float(side) for side in words) if words[0] else None
        name = plain["path"] + (f"@{','.join(f'{side:g}' for side in box)}" if box else "")
        frame = int(plain["frame"]) if plain.get("frame") else None
        further = [value for key, value in row.items() if key.strip() not in known]
        if frame is None:
            further = further[1:]  # as `read_table` leaves out the first
        found.append((name, plain["identity"], numbers.get(plain.get("camera"), -1), part, frame,
                      box, tuple(further)))  # fmt: skip
    return sorted(found, key=lambda sample: sample[0])


# Parameters


def params() -> Target:
    """params.yaml, which people edit, and DVC."""
    valid = (ROOT / "params.yaml").read_bytes()
    other = re.sub(rb"(?m)^lr: .*", b"lr: 0.2", valid)
    other = re.sub(rb"(?m)^arch: .*", b"arch: deepsort", other)
    return Target("params.yaml", "params.yaml", [valid, other], read_params,
                  says=read_params_as_dvc, checksums=False, bombs=bombs.yaml())  # fmt: skip


def search_space() -> Target:
    """search.yaml, which people edit too."""
    valid = (ROOT / "search.yaml").read_bytes()
    other = re.sub(rb"(?m)^seed: .*", b"seed: 3", valid)
    return Target("search.yaml", "search.yaml", [valid, other], read_search,
                  says=read_params_as_dvc, checksums=False, bombs=bombs.yaml())  # fmt: skip


def read_search(path: Path) -> object:
    return canonical(read_space(path, ROOT / "params.yaml").config.model_dump(mode="json"))


def read_params(path: Path) -> object:
    return canonical(load_params(path).raw)


def read_params_as_dvc(data: bytes) -> object:
    """The parameters as ruamel.yaml reads them, which DVC uses."""
    return canonical(YAML(typ="safe", pure=True).load(data.decode()))


def canonical(content: object) -> str:
    """A comparable text, in which 1 and 1.0 differ."""
    return json.dumps(content, sort_keys=True, default=repr)


# Weights


def weights() -> list[Target]:
    """Pretrained weights in torch's two formats and the one of safetensors.

    Only torch's newer format has checksums.
    """
    states = [
        {f"layer{n}.weight": torch.randn(8, 4, generator=torch.Generator().manual_seed(seed + n))
         for n in range(3)}
        for seed in (0, 100)
    ]  # fmt: skip
    new, old = (
        [written(torch.save, state, as_zip) for state in states] for as_zip in (True, False)
    )
    return [
        Target("weights", "w.pth", new, read_weights, says=read_weights_plainly,
               bombs=bombs.torch(new[0])),
        Target("weights, older format", "old.pth", old, read_weights, says=read_weights_plainly,
               checksums=False),
        Target("weights, safetensors", "w.safetensors", [save(state) for state in states],
               read_weights, says=lambda data: {"": tensors(load(data))}, checksums=False,
               bombs=bombs.safetensors()),
    ]  # fmt: skip


def read_weights(path: Path) -> object:
    return {place: tensors(state) for place, state in read_state_dicts(path).items()}


def read_weights_plainly(data: bytes) -> object:
    """The tensors as torch reads them, whatever the classes beside them are called."""
    module = types.ModuleType("nameless")
    vars(module).update(Unpickler=Nameless, load=lambda file, **how: Nameless(file, **how).load())
    content = torch.load(io.BytesIO(data), pickle_module=module, weights_only=False)
    return by_place(content)


class Nameless(pickle.Unpickler):
    """Makes torch's own objects, and empty ones of all other classes."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "torch":
            return super().find_class(module, name)
        return OrderedDict


def by_place(content: Mapping[str, object], place: str = "") -> dict[str, object]:
    """The tensors of a dictionary and of those in it."""
    own = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    found: dict[str, object] = {place: tensors(own)} if own else {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= by_place(value, f"{place}.{name}".lstrip("."))
    return found


def tensors(state: Mapping[str, torch.Tensor]) -> object:
    """Names, types, shapes and contents of tensors."""
    return {
        name: (str(t.dtype), tuple(t.shape), digest(t.contiguous().view(-1).numpy().tobytes()))
        for name, t in state.items()
    }


def trained(folder: Path, bombs: Mapping[str, bytes]) -> Target:
    """The checkpoint that stage train writes and stage evaluate reads."""
    contents = []
    for seed in (1, 2):
        path = folder / "model.pth"
        about = checkpoint.Description(
            epoch=seed, acc=50.0, arch="deepsort", embedding_size=512, image_size=SIZE,
            mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), classes=("a", "b"), data_digest="ab" * 32,
            identity=TRAINING.as_plain(),
        )  # fmt: skip
        checkpoint.save(
            path, network.build(network.Design("deepsort"), 2, seed=seed).state_dict(), about
        )
        contents.append(path.read_bytes())
    return Target("checkpoint", "model.pth", contents, read_checkpoint, share=0.2,
                  bombs=bombs)  # fmt: skip


def read_checkpoint(path: Path) -> object:
    net, about = checkpoint.load(path)
    return asdict(about), tensors(net.state_dict())


# Packed parts


def parts(folder: Path) -> list[Target]:
    """The files of stage split, each damaged while the others are whole."""
    made = [packed_parts(folder / str(shade), shade) for shade in (5, 7)]
    array, array_2 = (files_of["train.npy"] for files_of in made)
    claims = bombs.npy(np.load(io.BytesIO(array)))
    index_claims = {"a long field": b"pid,camid,identity,name\n1,1,a," + b"b" * 1_000_000}
    return [
        Target("packed array", "train.npy", [array, array_2], read_part,
               beside=without(made[0], "train.npy"), bombs=claims),
        Target("packed index", "train.csv", [m["train.csv"] for m in made], read_part,
               beside=without(made[0], "train.csv"), bombs=index_claims),
        Target("split summary", "summary.json", [m["summary.json"] for m in made], read_part,
               beside=without(made[0], "summary.json"), bombs=bombs.json()),
        Target("packed array, unverified", "train.npy", [array, array_2], read_part_unverified,
               says=read_array_plainly, checksums=False, beside=without(made[0], "train.npy"),
               bombs=claims),
    ]  # fmt: skip


def packed_parts(folder: Path, shade: int) -> dict[str, bytes]:
    """What stage split writes, of a small dataset."""
    contents = {f"id{n}/c{k % 2 + 1}_{k}.png": picture(shade * n + k)
                for n in range(1, 6) for k in range(1, 5 + shade % 3)}  # fmt: skip
    dataset = datasets.read_dataset(contents)
    made = datasets.pack(folder, dataset, contents, image_size=SIZE)
    packed.write_summary(folder, dataset.layout, count(made), tuning=False)
    return datasets.written(folder)


def without(contents: Mapping[str, bytes], name: str) -> Mapping[str, bytes]:
    return {other: content for other, content in contents.items() if other != name}


def read_part(path: Path) -> object:
    """A part as stage train reads it: verified, then opened."""
    summary = packed.read_summary(path.parent)
    packed.verify_parts(path.parent, summary, ["train"])
    part = packed.open_part(path.parent, "train")
    index = (part.pids.tolist(), part.camids.tolist(), list(part.identities), list(part.names))
    return asdict(summary), digest(part.images.tobytes()), index


def read_part_unverified(path: Path) -> object:
    images = packed.open_part(path.parent, "train").images
    return images.shape, digest(images.tobytes())


def read_array_plainly(data: bytes) -> object:
    images = np.load(io.BytesIO(data), allow_pickle=False)
    return images.shape, digest(images.tobytes())


# What an interrupted training goes on from, and what MLflow shall know


TRAINING = Fingerprint(data={"split": "ab" * 32}, params={"lr": 0.1}, code={}, environment={})


def resume_state(folder: Path, bombs: Mapping[str, bytes]) -> Target:
    """A state of an interrupted training, which is read before the training goes on."""
    contents = []
    for number in (1, 2):
        states = States(folder / f"states-{number}", TRAINING)
        weights = {"w": torch.full((40, 5), float(number))}
        states.write({"history": [{"epoch": number}], "net": weights}, best=0)
        contents.append(states.paths()[0].read_bytes())
    return Target("resume state", "000001-0.pth", contents, read_state, bombs=bombs)


def read_state(path: Path) -> object:
    content = torch.load(io.BytesIO(States(path.parent, TRAINING).read(path)), weights_only=True)
    state = content["state"]
    return state["history"], content["identity"], tensors(state["net"])


def run_curves(folder: Path) -> Target:
    """A run's points, whose damaged lines are skipped with a warning, and its torn end without."""
    contents = []
    for name in ("one", "two"):
        points = RunFolder(name, folder).metrics
        points.add([Point(n, n, curve, 1 / n) for n in range(1, 6) for curve in ("loss", name)])
        contents.append(points.path.read_bytes())
    many = {"a line of ten million": b"1,1,loss," + b"1" * 10_000_000 + b"\n"}
    return Target("run's curves", "metrics.csv", contents, read_curves,
                  says=whole_lines, checksums=False, bombs=many)  # fmt: skip


def read_curves(path: Path) -> object:
    """The points; what `run_curves` calls a warning is a clear error here."""
    warned = Warned()
    logging.getLogger(Points.__module__).addHandler(warned)
    try:
        found = Points(path, nullcontext).read()
    finally:
        logging.getLogger(Points.__module__).removeHandler(warned)
    if warned.text:
        raise DeepSortReidError(warned.text)
    return [repr(tuple(point)) for point in found]


class Warned(logging.Handler):
    """Keeps a warning's text."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


def whole_lines(data: bytes) -> object:
    """The points of the lines that have one, as Python's own reader of CSV splits them."""
    csv.field_size_limit(1 << 30)
    text = data[: data.rfind(b"\n") + 1].decode()
    rows = list(csv.reader(text.split("\n")[:-1], quoting=csv.QUOTE_NONE))
    return [
        repr((int(time), int(step) if step else None, name, float(value)))
        for time, step, name, value in rows
    ]


def run_report() -> Target:
    """reports/run.json as stage evaluate reads it: what is damaged names no run."""
    valid = [json.dumps({"key": name * 32, "run_id": name * 32, "run_name": "n"}).encode()
             for name in "ab"]  # fmt: skip
    return Target("run's report", "run.json", valid, read_run, says=named_run,
                  checksums=False, bombs=bombs.json())  # fmt: skip


def read_run(path: Path) -> object:
    warned = Warned()
    logging.getLogger(logger.__name__).addHandler(warned)
    try:
        found = logger.read_reference(path)
    finally:
        logging.getLogger(logger.__name__).removeHandler(warned)
    if warned.text:
        raise DeepSortReidError(warned.text)
    return found


def named_run(data: bytes) -> object:
    """The key and the id, where they can be names of a folder."""
    content = json.loads(data)
    names = (content.get("key"), content.get("run_id"))
    return tuple(n if isinstance(n, str) and re.fullmatch(r"\w[\w.+-]{0,99}", n) else None
                 for n in names)  # fmt: skip


# Reports


def report() -> Target:
    """A JSON file of reports/, which has no checksum; whoever reads it names it in the error."""
    valid = [json.dumps({"run_id": name * 32, "mAP": 0.25, "ok": True}, indent=2).encode()
             for name in "ab"]  # fmt: skip
    return Target("report", "run.json", valid, files.read_json, errors=(ValueError,),
                  says=json.loads, checksums=False, bombs=bombs.json())  # fmt: skip


def threshold_report() -> Target:
    """reports/evaluation.json as the stages read it that need the recommended threshold."""
    valid = [json.dumps({"mAP": 0.25, "max_cosine_distance": value, "queries": 9}).encode()
             for value in (0.25, 1)]  # fmt: skip
    return Target("evaluation's report", "evaluation.json", valid, read_threshold,
                  says=threshold_in, checksums=False, bombs=bombs.json())  # fmt: skip


def threshold_in(data: bytes) -> float:
    """The threshold as JSON has it."""
    return float(json.loads(data)["max_cosine_distance"])


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
