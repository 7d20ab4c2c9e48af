"""The commands for a network in production, their arguments and their help."""

from pathlib import Path
from typing import Annotated

import typer

from deepsort_reid.cli.options import Device, Folder
from deepsort_reid.cli.start import needing

app = typer.Typer()


@app.command()
def promote(
    run: Annotated[
        str, typer.Argument(help="a run's name, id or key, or models:/deepsort-reid@best")
    ],
    min_map: Annotated[str | None, typer.Option(help="least mAP: 70% or 0.7")] = None,
    max_switches: Annotated[str | None, typer.Option(help="most identity switches")] = None,
    least: Annotated[
        list[str] | None, typer.Option("--min", help="METRIC=VALUE, such as HOTA=50%; repeatable")
    ] = None,
    most: Annotated[list[str] | None, typer.Option("--max", help="likewise")] = None,
    than: Annotated[
        str | None, typer.Option(help="alias or version that it must not be worse than")
    ] = None,
) -> None:
    """Put a run's model into production, if its numbers are good enough.

    Moves the alias production of the registered model to the run's version, and writes who, when
    and which gates on it. Status 1, with the numbers that fail, if it is refused. To roll back,
    promote the older run. Metrics: mAP, rank-1, mINP, val_acc, HOTA, IDF1, MOTA, switches, and all
    that MLflow shows.

    \b
    deepsort-reid promote resnet10d-lr0.002 --min-map 70% --max-switches 20
    deepsort-reid promote models:/deepsort-reid@best --min HOTA=50% --than production
    """
    with needing("pipeline"):
        from deepsort_reid.cli import promote as promoting

        gates = promoting.gates_of(min_map, max_switches, least or [], most or [])
        typer.echo(promoting.promote(run, gates, than=than))


Level = Annotated[float, typer.Option("--alarm", min=0.001, max=0.5, help="share of false alarms")]
Pieces = Annotated[
    bool, typer.Option("--pieces", help="tracks may be pieces of one person's, as a video's may")
]


@app.command()
def watch(
    footage: Annotated[
        Path, typer.Argument(help="new crops: a folder, zip or tar, as dataset.source; or a video")
    ],
    tracks: Annotated[
        Path | None, typer.Option(help="of the video  [default: VIDEO.tracks.txt beside it]")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="old footage  [default: the split's held-out people]")
    ] = None,
    cameras: Annotated[
        list[int] | None,
        typer.Option("--camera", help="of the split, to compare with these alone; repeatable"),
    ] = None,
    level: Level = 0.01,
    name: Annotated[str, typer.Option(help="what is watched; each has its curve")] = "footage",
    pieces: Pieces = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", help="[default: models/model.pth in --folder]")
    ] = None,
    device: Device = None,
    folder: Folder = Path(),
) -> None:
    """Watch new footage: does it still look like what the network was trained on?

    A two-sample test of the network's embeddings, by whole tracks. Status 3 if there is an alarm, 0
    if not, 4 if there is too little footage to say, 1 on an error. Each look is a point of an
    MLflow run.

    \b
    deepsort-reid watch footage/today
    deepsort-reid watch street.mp4 --camera 2 --name street   (after deepsort-reid track street.mp4)
    deepsort-reid watch footage/today --against footage/first-week
    """
    with needing("pipeline"):
        from deepsort_reid.cli import watch as watching
        from deepsort_reid.core.errors import TooLittleError

        try:
            outcome, run = watching.watch(
                footage, tracks=tracks, weights=weights, folder=folder, against=against,
                cameras=cameras or [], level=level, name=name, pieces=pieces, device=device,
            )  # fmt: skip
        except TooLittleError as error:
            typer.echo(f"too little footage to say: {error}", err=True)
            raise typer.Exit(watching.TOO_LITTLE) from None
    typer.echo(watching.shown(outcome, run, as_json=as_json))
    raise typer.Exit(watching.ALARM if outcome.alarm else 0)
