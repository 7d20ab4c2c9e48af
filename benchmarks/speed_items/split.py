"""Images that stage split makes into parts, a second, beside what the cores can decode at all.

Ours is `pack.make_parts` from an archive to the four parts on the disk: reading, decoding, dealing
out, writing. The other side decodes the same files, which it has in memory already, on all cores
and throws the pixels away: by libjpeg-turbo alone (simplejpeg brings it, whose decoder ours is),
and by Pillow. Each turn is a process of its own. The real images instead of noise:

    MARKET_1501=~/Market-1501-v15.09.15.zip uv run benchmarks/speed.py --only split
"""

import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import PIL
import simplejpeg
from PIL import Image, features

from deepsort_reid.core.config import SplitConfig, load_params
from deepsort_reid.core.machine import cores
from deepsort_reid.data import pack
from deepsort_reid.data.layouts.registry import open_dataset
from deepsort_reid.data.samples import Dataset
from deepsort_reid.sources.archive import Archive
from speed_items import apart, noise
from speed_items.rows import ROUNDS, Row, compared, in_turns

IMAGES, QUICK = 12_000, 500
SIZE = (128, 64)  # height and width in pixels
PER_IDENTITY, QUERIES, CAMERAS = 16, 3, 6
LEAST = 0.9


def measure(quick: bool) -> Iterator[Row]:
    """Let ours and both decoders take turns."""
    with tempfile.TemporaryDirectory(prefix="speed-") as name:
        folder = Path(name)
        archive = given() or write_archive(folder / "market.zip", QUICK if quick else IMAGES)
        sides: dict[str, Callable[[], apart.Outcome]] = {
            "ours": partial(apart.call, parts, archive, folder),
            "libjpeg-turbo": partial(apart.call, by_library, archive),
            "Pillow": partial(apart.call, by_pillow, archive),
        }
        found = in_turns(sides, 1 if quick else ROUNDS)
    rates = {side: [outcome.value / outcome.seconds for outcome in found[side]] for side in found}
    peak = max(outcome.peak for outcome in found["ours"])
    images = f"{found['ours'][0].value:,} JPEGs of {'Market-1501' if given() else 'noise'}"
    where = f"{images}, {SIZE[0]}×{SIZE[1]}; ours held {peak:,.0f} MB at most"
    pillow = f"Pillow {PIL.__version__} with libjpeg-turbo {features.version('libjpeg_turbo')}"
    library = f"simplejpeg {simplejpeg.__version__}"
    for side, peer, least in (("libjpeg-turbo", library, LEAST), ("Pillow", pillow, None)):
        yield compared(
            f"archive to parts over decoding alone, by {side}",
            rates["ours"],
            rates[side],
            unit="images/s",
            conditions=f"{where}; {peer}, {cores()} threads",
            least=least,
        )


def given() -> Path | None:
    """The archive of the real images, if there is one."""
    path = os.environ.get("MARKET_1501")
    return Path(path).expanduser() if path else None


def write_archive(
    path: Path, count: int, per_identity: int = PER_IDENTITY, queries: int = QUERIES
) -> Path:
    """Zip images of noise under Market-1501's names, so many of each identity and as queries."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, pixels in enumerate(noise.images(count, SIZE, seed=0)):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "jpeg", quality=90)
            archive.writestr(market_name(number, count, per_identity, queries), file.getvalue())
    return path


def market_name(number: int, count: int, per_identity: int, queries: int) -> str:
    """Where Market-1501 would have an image: the second half of them is there for the test."""
    identity, place = divmod(number, per_identity)
    if number < count // 2:
        role = "bounding_box_train"
    else:
        role = "query" if place < queries else "bounding_box_test"
        identity += 1  # the one in the middle is cut in two
    return f"{role}/{identity + 1:04}_c{place % CAMERAS + 1}s1_{number:06}_00.jpg"


def parts(path: Path, folder: Path) -> tuple[int, float]:
    """Make parts of an archive; how many images it has, and the seconds that took."""
    archive = Archive(path)
    dataset = samples_of(archive)
    stated = vars(load_params(noise.ROOT / "params.yaml").split)
    config = SplitConfig(**(stated | {"image_size": SIZE}))
    with tempfile.TemporaryDirectory(dir=folder) as new:
        _, seconds = apart.timed(pack.make_parts, archive, [dataset], Path(new), config)
    return len(dataset.samples), seconds


def samples_of(archive: Archive) -> Dataset:
    """The dataset in an archive."""
    dataset = load_params(noise.ROOT / "params.yaml").dataset
    (source,) = dataset.sources
    return open_dataset(archive, source, dataset.mot)


def by_pillow(path: Path) -> tuple[int, float]:
    """Decode the images of an archive by Pillow; how many there are, and the seconds."""
    return decode(path, lambda data: Image.open(io.BytesIO(data), formats=["JPEG"]).load())


def by_library(path: Path) -> tuple[int, float]:
    """The same by libjpeg-turbo alone."""
    return decode(path, simplejpeg.decode_jpeg)


def decode(path: Path, decoder: Callable[[bytes], object]) -> tuple[int, float]:
    """Decode the images of an archive on all cores; how many there are, and the seconds."""
    archive = Archive(path)
    names = [sample.name for sample in samples_of(archive).samples]
    contents = [content for _, content in archive.read(names)]
    shares = [contents[first :: cores()] for first in range(cores())]

    def decode_all(share: Sequence[bytes]) -> None:
        for content in share:
            decoder(content)

    with ThreadPoolExecutor(cores()) as pool:
        _, seconds = apart.timed(lambda: list(pool.map(decode_all, shares)))
    return len(names), seconds
