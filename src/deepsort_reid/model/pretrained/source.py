"""What the parameter `weights` names: a file by its path, or by a URL and a checksum."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

from deepsort_reid.core import files
from deepsort_reid.core.errors import WeightsError
from deepsort_reid.core.project import resolve

CHECKSUM = "#sha256="  # between a path or URL and its checksum
BROUGHT = Path("data/weights")  # where stage weights leaves what it has brought


@dataclass(frozen=True)
class WeightsSource:
    """A file of pretrained weights, as params.yaml names it.

    Attributes:
        place: a path (`~` is the home, a relative one begins at the project's root) or a URL.
        sha256: its checksum, 64 small hexadecimal digits; None where none is stated.
    """

    place: str
    sha256: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take `weights` apart: `PATH`, `PATH#sha256=…` or `URL#sha256=…`.

        Raises:
            WeightsError: what is stated as a checksum is none.
        """
        place, mark, digest = text.strip().partition(CHECKSUM)
        if mark and not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise WeightsError(
                f"weights: '{digest}' is no SHA-256; expected 64 hexadecimal digits behind "
                f"'{CHECKSUM}', as `sha256sum` prints them"
            )
        return cls(place, digest.lower() if mark else None)

    @property
    def is_remote(self) -> bool:
        """Whether stage weights must bring the file."""
        return "://" in self.place and urlsplit(self.place).scheme.lower() != "file"

    @property
    def path(self) -> Path:
        """Where the file is to be read: at its place, or where stage weights left it."""
        if self.is_remote:
            return BROUGHT
        local = "://" in self.place
        return resolve(url2pathname(urlsplit(self.place).path) if local else self.place)

    def digest(self) -> str:
        """The SHA-256 of the file that is meant, 64 hexadecimal digits.

        Raises:
            WeightsError: a URL without checksum, or the file is not there.
        """
        if not self.is_remote:
            return self.sha256 or files.sha256(self.existing())
        if self.sha256 is None:
            raise WeightsError(
                f"{self.place}: no checksum, so nobody would notice another file there; "
                f"`dvc repro weights` brings the file and tells it: weights: URL{CHECKSUM}…"
            )
        return self.sha256

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
                f"{path}: its SHA-256 is {actual}, weights expects {wanted}; {remedy}"
            )
        return path

    def existing(self) -> Path:
        """The path of the file, which is there.

        Raises:
            WeightsError: it is not, or it is a folder.
        """
        path = self.path
        if path.is_dir():
            inside = sorted(entry.name for entry in path.iterdir() if entry.is_file())[:5]
            found = f" (it holds {', '.join(inside)})" if inside else ""
            raise WeightsError(f"{path}: a folder{found}; name the file of weights in it")
        if not path.exists():
            remedy = "; `dvc repro weights` brings it" if self.is_remote else ""
            raise WeightsError(f"{path}: no such file; expected a file of weights{remedy}")
        return path
