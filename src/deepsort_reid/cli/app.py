"""The commands of `deepsort-reid`, their arguments and their help.

Nothing heavy is imported before a command runs, so that `--help` is there at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from deepsort_reid.cli import production
from deepsort_reid.cli.options import Device, Folder, Weights
from deepsort_reid.cli.start import needing

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Train the appearance network of a Deep SORT tracker, and use it.

    With a pipeline, `dvc repro` runs what has changed; these commands run single stages without
    DVC, and use a network on your own images and videos. Errors are one line, with status 1.
    """,
)

Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what is there already")]

Video = Annotated[
    Path | None, typer.Argument(help="video file; without it, the stage track of --folder")
]
Detections = Annotated[
    Path | None,
    typer.Option(help="boxes: frame,-1,left,top,width,height,confidence; pixels, from 1"),
]
Detector = Annotated[
    str, typer.Option(help="hog, or a torchvision detection model (downloads its weights)")
]
MaxCosineDistance = Annotated[
    float | None,
    typer.Option(
        min=0, max=2, help="largest distance of one person's images  [default: as recommended]"
    ),
]

ImageSize = Annotated[
    tuple[int, int] | None,
    typer.Option(
        metavar="H W",
        min=1,
        help="pixels, of networks whose file does not say it  [default: 256 128]",
    ),
]
OfNetworks = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME.normalisation, NAME.image_size, NAME.arch; repeatable"),
]


@app.command()
def embed(
    images: Annotated[list[Path], typer.Argument(help="image files, or folders of them")],
    weights: Weights,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="file  [default: standard output]"),
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="csv, tsv or npz  [default: by --output, or csv]")
    ] = None,
    device: Device = None,
    batch_size: Annotated[int, typer.Option(min=1, help="images at a time")] = 64,
) -> None:
    """Embed images of people: a row of numbers for each.

    The vectors have unit length: 1 - a·b is the cosine distance of two images, from 0 to 2. A table
    has the columns image, e0, e1, …; an npz file the arrays images and embeddings.

    \b
    deepsort-reid embed alice.jpg bob.jpg -w models/model.pth
    deepsort-reid embed street/ -w models/model.pth -o street.npz
    """
    with needing("command"):
        from deepsort_reid.cli import embedding
        from deepsort_reid.model.extractor import Extractor

        written = embedding.format_of(output, form)
        paths = embedding.find_images(images)
        extractor = Extractor(weights, device=device, batch_size=batch_size)
        embedding.write_table(extractor, paths, output, written)


@app.command()
def track(
    video: Video = None,
    weights: Weights = Path("models/model.pth"),
    detections: Detections = None,
    detector: Detector = "hog",
    max_cosine_distance: MaxCosineDistance = None,
    min_confidence: Annotated[float, typer.Option(help="least confidence of a detection")] = 0.3,
    max_age: Annotated[int, typer.Option(min=1, help="frames out of sight that end a track")] = 60,
    n_init: Annotated[int, typer.Option(min=1, help="detections that confirm a track")] = 3,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the files")] = Path(),
    device: Device = None,
    overwrite: Overwrite = False,
    folder: Folder = Path(),
) -> None:
    """Track the people of a video: an annotated copy, and a table.

    NAME.tracks.webm is the video with boxes and identities drawn in. NAME.tracks.txt has a line for
    each box, as MOTChallenge takes it, which counts frames and pixels from 1. The threshold is the
    one that stage evaluate recommends: reports/evaluation.json beside the folder of --weights.

    The default detector, OpenCV's HOG, needs no file. It finds upright people of about 100 pixels
    or more, misses the half hidden, and is slow. For good tracks bring the boxes of your own
    detector by --detections, or name a model of torchvision.

    \b
    deepsort-reid track street.mp4 -w models/model.pth
    deepsort-reid track street.mp4 -w models/model.pth --detections det.txt -o results
    deepsort-reid track street.mp4 --detector fasterrcnn_mobilenet_v3_large_320_fpn
    deepsort-reid track --folder run1            (the stages sequences and track)
    """
    if video is None:
        run_stages("pipeline", ["sequences", "track"], folder)
        return
    with needing("track"):
        from deepsort_reid.cli import video as videos

        made = videos.outputs(video, output, overwrite=overwrite)
        text = videos.track(
            video,
            weights,
            made=made,
            max_cosine_distance=max_cosine_distance,
            settings=videos.tracker_config(min_confidence, max_age, n_init),
            detections=detections,
            detector=detector,
            device=device,
        )
    typer.echo(text)


@app.command()
def train(
    folder: Folder = Path(),
    source: Annotated[
        str | None, typer.Option(help="images: a folder, an archive, a URL, or synthetic")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="named values; `deepsort-reid recipe` lists them")
    ] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", help="a parameter, such as epochs=40; repeatable")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a network without DVC, in a folder.

    The stages download, split, weights and train. A new folder gets the default params.yaml. A
    checkpoint that is there stays, unless --overwrite; an interrupted training goes on with
    --overwrite.

    \b
    deepsort-reid train --folder run1 --source street --set epochs=40
    deepsort-reid train --folder run2 --source market1501.zip --recipe market1501
    """
    with needing("train"):
        from deepsort_reid.cli import stages

        if not overwrite:
            stages.check_free(folder)
        changes = stages.prepare(folder, source=source, recipe=recipe, values=values or [])
        for change in changes:
            typer.echo(f"{change.key}: {change.before} -> {change.after}", err=True)
        stages.run(["download", "split", "weights", "train"], folder)


@app.command()
def evaluate(folder: Folder = Path()) -> None:
    """Evaluate the network of a folder without DVC.

    mAP, rank-1, the recommended threshold, and pictures: the stage evaluate.

    \b
    deepsort-reid evaluate --folder run1
    """
    run_stages("train", ["evaluate"], folder)


@app.command()
def export(folder: Folder = Path()) -> None:
    """Export the network of a folder without DVC.

    models/export gets a verified file for each tracker: the stage export.

    \b
    deepsort-reid export --folder run1
    """
    run_stages("export", ["export"], folder)


def run_stages(extra: str, names: list[str], folder: Path) -> None:
    """Run stages of a folder, which need what an extra installs."""
    with needing(extra):
        from deepsort_reid.cli import stages

        stages.run(names, folder)


@app.command()
def compare(
    networks: Annotated[
        list[str],
        typer.Argument(metavar="NETWORK", help="PATH, or NAME=PATH; your own one first"),
    ],
    folder: Folder = Path(),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="folder of the files  [default: reports/compare in --folder]"
        ),
    ] = None,
    image_size: ImageSize = None,
    values: OfNetworks = None,
    with_tracking: Annotated[
        bool, typer.Option("--track/--no-track", help="try them in Deep SORT too")
    ] = True,
    device: Device = None,
) -> None:
    """Compare networks: is mine better than the one I have?

    mAP, rank-1, threshold, crops a second, HOTA and identity switches of each, on the query, the
    gallery and the sequences of --folder; a table, a CSV, a picture and an MLflow run. In the end
    it says whether the first network is better than each other one.

    A NETWORK is a checkpoint of this project, a folder of a run, models:/deepsort-reid@best, an
    ONNX file, weights of torchreid, boxmot, torchvision or deep_sort_pytorch, or a folder of
    Roboflow's reid.

    \b
    deepsort-reid compare models/model.pth osnet_x0_25.onnx
    deepsort-reid compare mine=run1 theirs=osnet.pth --image-size 256 128
    deepsort-reid compare run1 other=net.onnx --set other.normalisation=inside
    """
    with needing("pipeline"):
        from deepsort_reid.cli.compare import compare as compared

        text = compared(
            networks,
            settings=values or [],
            folder=folder,
            output=output,
            image_size=image_size,
            device=device,
            with_tracking=with_tracking,
        )
    typer.echo(text)


@app.command()
def search(
    trials: Annotated[
        int, typer.Option(min=1, help="trials of the study, earlier ones included")
    ] = 40,
    file: Annotated[
        Path, typer.Option("--file", "-f", help="what varies, and in which range")
    ] = Path("search.yaml"),
    study: Annotated[
        str | None, typer.Option(help="name of the study  [default: as the file is called]")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="database of the study, postgresql://…  [default: SQLite in .search/]"),
    ] = None,
) -> None:
    """Search for parameters that train a better network.

    search.yaml says which parameters vary. Each trial trains a network and evaluates it on
    identities held out of training; bad ones are pruned early. A trial at a time runs on each GPU,
    and in MLflow below the run of the search. In the end stands the command that trains the best
    one. A search that was interrupted goes on with the same command.

    \b
    deepsort-reid search --trials 40
    deepsort-reid search --trials 80             (40 more)
    deepsort-reid search --file losses.yaml
    """
    with needing("pipeline"):
        from deepsort_reid.cli.search import search as searched

        text = searched(file, trials=trials, name=study, url=storage)
    typer.echo(text)


app.add_typer(production.app)


@app.command()
def metrics(
    runs: Annotated[
        list[str], typer.Argument(help="folders, files of metrics (JSON), or commits of git")
    ],
    list_all: Annotated[bool, typer.Option("--all", help="show all metrics")] = False,
) -> None:
    """Show recorded metrics of several runs beside each other.

    Nothing is computed. Shares are from 0 to 1. `dvc exp show` compares experiments.

    \b
    deepsort-reid metrics run1 run2
    deepsort-reid metrics HEAD~1 .               (the commit before the last, and the workspace)
    """
    from deepsort_reid.cli.metrics import table

    typer.echo(table(runs, list_all=list_all))


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def lineage(context: typer.Context) -> None:
    """Tell where a checkpoint comes from.

    Its data, parameters, code and environment, its MLflow run, and the commits that hold it.

    \b
    deepsort-reid lineage models/model.pth
    deepsort-reid lineage --help
    """
    with needing("pipeline"):
        import logging

        from deepsort_reid.lineage.__main__ import main

        logging.disable()
        main(context.args, program="deepsort-reid lineage")


@app.command()
def deliver() -> None:
    """Send to MLflow what waits after an outage.

    Status 1 if something still waits.

    \b
    MLFLOW_TRACKING_URI=https://mlflow.example.org deepsort-reid deliver
    """
    with needing("pipeline"):
        from deepsort_reid.runs.deliver import main

        main()


@app.command()
def recipe(
    name: Annotated[
        str | None,
        typer.Argument(help="recipe to write; without it, all are listed"),
    ] = None,
) -> None:
    """List the recipes, or write one into params.yaml.

    That of the current folder. A recipe states some of the parameters; the others and the comments
    stay.

    \b
    deepsort-reid recipe
    deepsort-reid recipe market1501
    """
    with needing("pipeline"):
        from deepsort_reid.cli import recipes
        from deepsort_reid.core.project import home

        if name is None:
            typer.echo(recipes.listing(home()))
            return
        path, params = recipes.find(home(), name), Path("params.yaml")
        typer.echo(recipes.report(path, recipes.apply(path, params), params))
