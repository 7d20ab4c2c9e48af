"""What `weights` and `teacher` name: a file, a URL, a word, or a registered model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

from deepsort_reid.core import files
from deepsort_reid.core.errors import WeightsError
from deepsort_reid.core.project import resolve
from deepsort_reid.core.secrets import masked

CHECKSUM = "#sha256="  # between a path or URL and its checksum
IMAGENET = "imagenet"  # the word for the files that the network's own library publishes
REGISTERED = "models:/"  # before the name of a model in MLflow's registry
BROUGHT = Path("data/weights")  # where stage weights leaves what it has brought
TEACHER = Path("data/teacher")  # likewise, of the teacher
NOTHING = "none\n"  # left there where a parameter names nothing: DVC warns of an empty file
IN_FOLDER = "weights.safetensors"  # in a folder of Roboflow's reid


class Named(Protocol):
    """The parameters that name files of weights."""

    @property
    def weights(self) -> str | None:
        """Of pretrained weights."""

    @property
    def teacher(self) -> str | None:
        """Of a teacher."""


@dataclass(frozen=True)
class WeightsSource:
    """A file of weights, as params.yaml names it.

    Attributes:
        place: a path (`~` is the home, a relative one begins at the project's root), a URL, the
            word `imagenet`, or a registered model such as `models:/deepsort-reid@best`.
        sha256: its checksum, 64 small hexadecimal digits; None where none is stated.
        brought: where stage weights leaves it.
    """

    place: str
    sha256: str | None
    brought: Path = BROUGHT

    @classmethod
    def parse(cls, text: str, brought: Path = BROUGHT) -> Self:
        """Take `weights` or `teacher` apart: `PATH`, `PATH#sha256=…`, `URL#sha256=…` or a word.

        Raises:
            WeightsError: what is stated as a checksum is none.
        """
        place, mark, digest = text.strip().partition(CHECKSUM)
        if mark and not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise WeightsError(
                f"{brought.name}: '{digest}' is no SHA-256; expected 64 hexadecimal digits behind "
                f"'{CHECKSUM}', as `sha256sum` prints them"
            )
        return cls(place, digest.lower() if mark else None, brought)

    @property
    def is_imagenet(self) -> bool:
        """Whether the library of the network itself brings the file."""
        return self.place == IMAGENET

    @property
    def is_registered(self) -> bool:
        """Whether MLflow's registry brings the file."""
        return self.place.startswith(REGISTERED)

    @property
    def is_url(self) -> bool:
        """Whether the file is downloaded from a URL."""
        return "://" in self.place and urlsplit(self.place).scheme.lower() != "file"

    @property
    def is_remote(self) -> bool:
        """Whether stage weights must bring the file."""
        return self.is_imagenet or self.is_registered or self.is_url

    @property
    def path(self) -> Path:
        """Where the file is to be read: at its place, or where stage weights left it."""
        if self.is_remote:
            return self.brought
        local = "://" in self.place
        path = resolve(url2pathname(urlsplit(self.place).path) if local else self.place)
        inside = path / IN_FOLDER
        return inside if inside.is_file() else path

    def digest(self) -> str:
        """The SHA-256 of the file that is meant, 64 hexadecimal digits.

        Raises:
            WeightsError: a URL without checksum, or the file is not there.
        """
        if self.is_url and self.sha256 is None:
            raise WeightsError(
                f"{masked(self.place)}: no checksum, so nobody would notice another file there; "
                f"`dvc repro weights` brings the file and tells it: "
                f"{self.brought.name}: URL{CHECKSUM}…"
            )
        return self.sha256 or files.sha256(self.existing())

    def verified(self) -> Path:
        """The path of the file, which is the one that is meant.

        Raises:
            WeightsError: it is not there, or has another checksum.
        """
        wanted, path = self.digest(), self.existing()
        if self.sha256 is None:
            return path
        actual = files.sha256(path)
        if actual != wanted:
            remedy = (
                "run `dvc repro weights`, which brings it"
                if self.is_remote
                else "check which of them is right"
            )
            raise WeightsError(
                f"{path}: its SHA-256 is {actual}, {self.brought.name} expects {wanted}; {remedy}"
            )
        return path

    def existing(self) -> Path:
        """The path of the file, which is there.

        Raises:
            WeightsError: it is not, it is a folder without such a file, or it was not brought yet.
        """
        path = self.path
        if path.is_dir():
            inside = sorted(entry.name for entry in path.iterdir() if entry.is_file())[:5]
            found = f" (it holds {', '.join(inside)})" if inside else ""
            raise WeightsError(f"{path}: a folder{found}; name the file of weights in it")
        if not path.exists():
            remedy = "; `dvc repro weights` brings it" if self.is_remote else ""
            raise WeightsError(f"{path}: no such file; expected a file of weights{remedy}")
        if self.is_remote and path.stat().st_size == len(NOTHING):
            raise WeightsError(
                f"{path}: holds nothing yet; `dvc repro weights` brings {masked(self.place)}"
            )
        return path


def sources(config: Named) -> Mapping[str, WeightsSource]:
    """The files of weights that a training needs: `weights`, `teacher`, or neither.

    Raises:
        WeightsError: see `WeightsSource.parse`; or the teacher is no checkpoint of this project.
    """
    if config.teacher == IMAGENET:
        raise WeightsError(
            f"teacher: {IMAGENET} knows nobody of the dataset; expected a checkpoint that stage "
            "train has written, such as ../large/models/model.pth"
        )
    named = {"weights": (config.weights, BROUGHT), "teacher": (config.teacher, TEACHER)}
    return {
        name: WeightsSource.parse(text, brought) for name, (text, brought) in named.items() if text
    }
