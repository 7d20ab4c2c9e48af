"""Where the command `deepsort-reid` begins: its signals, errors in one line, missing packages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from deepsort_reid.core.errors import MissingPackageError
from deepsort_reid.core.stage import run_stage

NEEDED = {  # packages of each extra of pyproject.toml by which it is known to be installed
    "train": ("pydantic", "ruamel", "matplotlib", "filelock", "scipy"),
    "export": ("pydantic", "ruamel", "filelock", "onnx", "onnxruntime", "onnxscript"),
    "track": ("pydantic", "ruamel", "scipy", "deep_sort_realtime", "cv2"),
    "pipeline": ("pydantic", "ruamel", "mlflow", "trackeval", "filelock", "optuna"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; None: with this process's arguments."""

    def run() -> None:
        with needing("command"):
            from deepsort_reid.cli.app import app
        app(arguments, prog_name="deepsort-reid")

    run_stage(run, ())


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Name the extra to install where a package is not there.

    Raises:
        MissingPackageError: a package of others is not installed.
    """
    missing = next((name for name in NEEDED.get(extra, ()) if find_spec(name) is None), None)
    if missing is not None:
        raise MissingPackageError(missing_text(missing, extra))
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "deepsort_reid").startswith("deepsort_reid"):
            raise
        raise MissingPackageError(missing_text(error.name or "", extra)) from None


def missing_text(package: str, extra: str) -> str:
    """What to do about a package that is not installed."""
    return f"this needs {package}, which is not installed: pip install 'deepsort-reid[{extra}]'"
