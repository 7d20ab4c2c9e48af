"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Weights = Annotated[
    Path, typer.Option("--weights", "-w", help="checkpoint of this project: models/model.pth")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda or cuda:N  [default: a GPU if there is one]")
]
Folder = Annotated[
    Path,
    typer.Option("--folder", "-f", help="run's folder, with params.yaml, data, …"),
]
