r"""Market-1501's evaluation as a whole, beside torchreid's own of the same network.

Ours is what stage evaluate does with the packed parts: embed, rank, calibrate, classify the
validation part, write tables, draw. Theirs is the test of its engine: it decodes, embeds and ranks.
Stage split has decoded before, once for all evaluations; the rows say how long it took. Each turn
is a process of its own, with all cores. Then the same of MSMT17's size, 93,820 images of noise
(Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person Re-Identification", CVPR 2018).
Market-1501's are noise too, or the real ones, and torchreid's ranking is compiled:

    MARKET_1501=~/Market-1501-v15.09.15.zip \
    TORCHREID_RANK_CY=~/deep-person-reid/torchreid/metrics/rank_cylib/rank_cy.pyx \
        uv run benchmarks/speed.py --only evaluation
"""

import json
import os
import signal
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from deepsort_reid.core.config import SplitConfig, load_params
from deepsort_reid.core.machine import cores
from deepsort_reid.data import pack
from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.data.packed import open_part
from deepsort_reid.evaluation import report
from deepsort_reid.evaluation.embedding import Embedder
from deepsort_reid.evaluation.evaluate import evaluate
from deepsort_reid.export.formats import Trained, write_torchreid
from deepsort_reid.model import network
from deepsort_reid.model.checkpoint import Description
from deepsort_reid.model.device import computing
from deepsort_reid.model.embed import Predictor
from deepsort_reid.sources.archive import Archive
from speed_items import apart, noise
from speed_items.rows import Row, compared, in_turns, spread
from speed_items.split import PER_IDENTITY, QUERIES, SIZE, given, samples_of, write_archive

ARCHS, QUICK_ARCHS = ("resnet18", "osnet_x1_0", "osnet_x0_25"), ("osnet_x0_25",)
IMAGES, QUICK = 36_000, 600
LARGE, LARGE_ARCH = 2 * 93_820, "osnet_x0_25"  # half of them for the test
LARGE_QUERIES = 8  # images of an identity with one query among them; MSMT17 has 11,659 queries
IDENTITIES = 1_501  # at most, of which torchreid's Market-1501 knows
ROUNDS = 2
THEIRS = Path(__file__).parent / "torchreid_evaluation.py"
LEAST = 2.0
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # as the system does where memory ends
TOLERANCE = 1e-3  # torchreid prints shares to a tenth of a per cent


def measure(quick: bool) -> Iterator[Row]:
    """Let both sides take turns, network by network."""
    with tempfile.TemporaryDirectory(prefix="speed-") as name:
        folder = Path(name)
        archive = given() or noise_archive(folder / "market.zip", QUICK if quick else IMAGES)
        packing = prepare(folder, archive)
        images = "images of Market-1501" if given() else "images of noise"
        for arch in QUICK_ARCHS if quick else ARCHS:
            title = f"Market-1501's evaluation, {arch}, {SIZE[0]}×{SIZE[1]}"
            yield from rows_of(title, images, arch, folder, packing, 1 if quick else ROUNDS)
    if quick:
        return
    with tempfile.TemporaryDirectory(prefix="speed-") as name:
        folder = Path(name)
        packing = prepare(folder, noise_archive(folder / "large.zip", LARGE, LARGE_QUERIES))
        title = f"an evaluation of MSMT17's size, {LARGE_ARCH}, {SIZE[0]}×{SIZE[1]}"
        yield from rows_of(title, "images of noise", LARGE_ARCH, folder, packing, 1)


def noise_archive(path: Path, count: int, one_in: int = PER_IDENTITY // QUERIES) -> Path:
    """Images of noise, of no more identities than torchreid takes for Market-1501's.

    Args:
        path: of the archive.
        count: images.
        one_in: how many images of an identity have one query among them.
    """
    per_identity = max(PER_IDENTITY, -(-count // (IDENTITIES - 1)))
    return write_archive(path, count, per_identity, per_identity // one_in)


def prepare(folder: Path, archive: Path) -> float:
    """Put the images where both sides look for them; the seconds of stage split's part."""
    unpack(archive, folder / "market1501")
    return apart.timed(write_parts, archive, folder / "parts")[1]


def rows_of(
    what: str, images: str, arch: str, folder: Path, packing: float, rounds: int
) -> Iterator[Row]:
    """The seconds, the memory and the agreement of both sides."""
    write_torchreid(folder / "torchreid.pth", trained(arch, folder / "parts"))
    found = in_turns(
        {
            "ours": lambda: apart.call(ours, arch, folder / "parts"),
            "theirs": partial(theirs, arch, folder),
        },
        rounds,
    )
    own = [turn for turn in found["ours"] if turn]
    other = [turn for turn in found["theirs"] if turn]
    where = (
        f"{own[0].value['images']:,} {images}, random weights, {cores()} threads; torchreid 0.2.5, "
        f"its ranking {how_ranked(other)}; stage split decoded before in {packing:.1f} s"
    )
    seconds = {
        side: [turn.seconds for turn in turns] for side, turns in (("ours", own), ("theirs", other))
    }
    if not other:
        peak = spread([turn.peak for turn in own], "MB")
        yield Row(
            what=what, ours=f"{spread(seconds['ours'], 's')}, {peak}",
            other=f"killed: it took more memory than the machine has, {memory():.0f} GB",
            ratio=None, target="", met=None, n=len(own), conditions=where,
        )  # fmt: skip
        return
    row = compared(
        what, [1 / s for s in seconds["ours"]], [1 / s for s in seconds["theirs"]],
        unit="a second", conditions=where, least=LEAST,
    )  # fmt: skip
    yield replace(row, ours=spread(seconds["ours"], "s"), other=spread(seconds["theirs"], "s"))
    yield compared(
        f"memory of the process: {what}", [turn.peak for turn in own],
        [turn.peak for turn in other], unit="MB", conditions=where,
    )  # fmt: skip
    apart_by = max(abs(own[0].value[name] - other[0].value[name]) for name in ("mAP", "rank1"))
    yield Row(
        what=f"largest difference of mAP and rank-1: {what}",
        ours=f"{apart_by:.1e}", other="", ratio=None, target=f"at most {TOLERANCE:g}",
        met=apart_by <= TOLERANCE, n=1, conditions=where,
    )  # fmt: skip


def unpack(archive: Path, folder: Path) -> None:
    """Put the images where torchreid looks for them."""
    folder.mkdir()
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    if not (folder / "Market-1501-v15.09.15").is_dir():
        inside = list(folder.iterdir())
        (folder / "Market-1501-v15.09.15").mkdir()
        for path in inside:
            path.rename(folder / "Market-1501-v15.09.15" / path.name)


def write_parts(archive: Path, folder: Path) -> None:
    """What stage split makes of the archive."""
    opened = Archive(archive)
    stated = vars(load_params(noise.ROOT / "params.yaml").split)
    config = SplitConfig(**(stated | {"image_size": SIZE, "val_fraction": 0.05}))
    folder.mkdir()
    pack.make_parts(opened, [samples_of(opened)], folder, config)


def trained(arch: str, parts: Path) -> Trained:
    """A network of random weights, as stage train would describe it."""
    classes = open_part(parts, "val").classes
    net = network.build(network.Design(arch), len(classes), image_size=SIZE, seed=1).eval()
    about = Description(
        epoch=1, acc=0.0, arch=arch, embedding_size=net.feature_size, image_size=list(SIZE),
        mean=list(MEAN), std=list(STD), classes=classes, data_digest="", identity={},
    )  # fmt: skip
    return Trained(net=net, about=about, max_cosine_distance=1.0)


def ours(arch: str, parts: Path) -> tuple[dict[str, Any], float]:
    """What stage evaluate does, but for its record in MLflow."""
    made = trained(arch, parts)
    query, gallery, val = (open_part(parts, name) for name in ("query", "gallery", "val"))
    config = load_params(noise.ROOT / "params.yaml").evaluate

    def work() -> Any:
        with computing() as device, tempfile.TemporaryDirectory() as folder:
            predictor = Predictor(made.net, mean=MEAN, std=STD, device=device)
            found = evaluate(
                Embedder(predictor, config.batch_size), query, gallery, val,
                classes=made.about.classes, config=config, tuning=False,
            )  # fmt: skip
            report.write_evaluation(
                Path(folder), found, query=query, gallery=gallery,
                ranked_queries=config.ranked_queries,
            )  # fmt: skip
        return found.ranking

    torch.set_flush_denormal(True)
    ranking, seconds = apart.timed(work)
    numbers = {
        "mAP": ranking.mAP, "rank1": float(ranking.cmc[0]),
        "images": ranking.num_query + ranking.num_gallery,
    }  # fmt: skip
    return numbers, seconds


def how_ranked(other: Sequence[apart.Outcome]) -> str:
    """How torchreid ranked, as far as it came."""
    if not other:
        return "not reached"
    return "compiled" if other[0].value["compiled"] else "in Python"


def memory() -> float:
    """GB of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def theirs(arch: str, folder: Path) -> apart.Outcome | None:
    """What torchreid's engine does, in its own environment; None if memory did not suffice.

    Raises:
        RuntimeError: it failed otherwise.
    """
    done = subprocess.run(
        ["uv", "run", "--quiet", "--script", str(THEIRS), str(folder), arch,
         str(folder / "torchreid.pth"), str(cores())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode in KILLED:
        return None
    if done.returncode:
        raise RuntimeError(f"torchreid's evaluation failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return apart.Outcome(found, found["seconds"], found["peak"])
