"""How every stage begins and ends: its arguments, its log, and its errors in one line."""

import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from deepsort_reid.core import signals
from deepsort_reid.core.errors import ConfigError, DeepSortReidError
from deepsort_reid.core.files import FULL, IN_THE_WAY
from deepsort_reid.core.launch import read_launch
from deepsort_reid.core.project import outputs_of

LINK, LINKED = re.compile(r"\[([^]]+)\]\((\w+\.md)\)"), r"docs/\2"  # of a description


def run_stage(
    main: Callable[[], None],
    arguments: Sequence[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Run a stage's `main`, and end the process with status 1 and one line on a user's error.

    Anything else, a defect of ours, keeps its traceback. SIGTERM, Ctrl-C and a lost terminal end
    the process by way of every `finally`, with status 128 + signal.

    Args:
        main: the stage.
        arguments: of the command line; None: those of this process. `--help` prints help and ends
            the process with status 0. Any other argument is a user's error.
        environ: where a launcher tells that several processes run this stage together: then rank 0
            alone talks, and torchrun gets the error, of which it shows the one of the rank that
            failed first. None: the process is alone, whatever a launcher has left.
    """
    set_up_log(is_first=True)
    signals.end_with_parent()
    try:
        is_first = environ is None or read_launch(environ).rank == 0
        set_up_log(is_first=is_first)
        check_arguments(main, sys.argv[1:] if arguments is None else arguments, is_first=is_first)
        with signals.ending_in_time(), signals.handling(signals.leave):
            main()
    except (DeepSortReidError, OSError) as error:
        mendable = describe(error)
        if mendable is None:
            raise
        report(mendable, environ or {})
        raise SystemExit(1) from None


def check_arguments(main: Callable[[], None], arguments: Sequence[str], *, is_first: bool) -> None:
    """Answer `--help`, and refuse every other argument.

    Raises:
        ConfigError: there is another argument.
        SystemExit: help was asked for. Rank 0 has printed it.
    """
    if not arguments:
        return
    script = Path(sys.modules[main.__module__].__file__ or "")
    if {"-h", "--help"} & set(arguments):
        if is_first:
            with suppress(BrokenPipeError):  # `| head` has read enough
                print(help_of(script, main.__module__), flush=True)  # noqa: T201
        raise SystemExit(0)
    raise ConfigError(
        f"{script.name}: unknown argument {arguments[0]!r}; expected none, or --help"
        + ("; parameters stand in params.yaml" if is_stage(script) else "")
    )


def is_stage(script: Path) -> bool:
    """Whether a program is a stage's script."""
    return script.parent.name == "pipeline"


def help_of(script: Path, module: str) -> str:
    """What a program does; if it is a stage of dvc.yaml, also what it reads, makes and obeys."""
    parts = [(sys.modules[module].__doc__ or "").strip(), ""]
    if is_stage(script):
        from deepsort_reid.core.yaml_file import read_yaml  # a program that runs needs none of it

        declared = read_yaml(script.parents[1] / "dvc.yaml")["stages"]
        parts += stage_lines(declared.get(script.stem, {}))
        parts += [f"`dvc repro {script.stem}` runs it, and the stages before it, if need be."]
    return "\n".join(parts).rstrip()


def stage_lines(declared: Mapping[str, Any]) -> Iterator[str]:
    """The files and parameters of a stage, as dvc.yaml declares them."""
    from deepsort_reid.core.config import meanings

    code = ("src/", "pipeline/")
    read = [name for name in declared.get("deps", []) if not name.startswith(code)]
    for title, names in (("reads", read), ("makes", outputs_of(declared))):
        if names:
            yield f"{title}:"
            yield from (f"  {name}" for name in names)
    known = meanings()
    asked = declared.get("params", [])
    chosen = {
        key: text
        for key, text in known.items()
        if any(key == name or key.startswith(f"{name}.") for name in asked)
    }
    width = max(map(len, chosen), default=0)
    if chosen:
        yield "parameters, in params.yaml:"
    yield from (f"  {key:{width}}  {LINK.sub(LINKED, text)}" for key, text in chosen.items())
    yield ""


def set_up_log(*, is_first: bool) -> None:
    """Send our log to standard error: all of it from rank 0, warnings and worse from the others."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(message)s"))
    log = logging.getLogger("deepsort_reid")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO if is_first else logging.ERROR)


class _Formatter(logging.Formatter):
    """Plain lines; warnings and errors say that they are."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


def describe(error: DeepSortReidError | OSError) -> DeepSortReidError | None:
    """The error as a user can mend it, or None if they cannot."""
    if isinstance(error, DeepSortReidError):
        return error
    where = error.filename or "the file being written"
    if error.errno in FULL:
        return DeepSortReidError(
            f"{where}: no space left on the disk; free some and run the same command again"
        )
    if error.errno in IN_THE_WAY and error.filename:
        reason = (error.strerror or "").lower()
        return DeepSortReidError(
            f"{where}: cannot be used ({reason}); mend that and run the same command again"
        )
    return None


def report(error: DeepSortReidError, environ: Mapping[str, str]) -> None:
    """Print the error, or hand it to torchrun if that has started this process as a rank."""
    if environ.get("TORCHELASTIC_ERROR_FILE"):
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
    else:
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201
