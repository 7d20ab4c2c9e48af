"""README.md, CONTRIBUTING.md and docs/ say what the project is.

`python -m tests.test_docs` writes the table of parameters and the list of rooms anew.
"""

import ast
import importlib
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import typer
import yaml

from deepsort_reid.cli.app import app
from deepsort_reid.core import files
from deepsort_reid.core.config import (
    SECTIONS,
    TrainConfig,
    describe,
    meanings,
    parse,
)
from deepsort_reid.core.config_errors import expected_range
from deepsort_reid.core.section import Section
from deepsort_reid.core.yaml_file import parse_yaml, read_yaml, show
from deepsort_reid.model import checkpoint
from tests.support.exports import trained
from tests.test_architecture import ROOMS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "deepsort_reid"
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PARAMETERS = DOCS / "parameters.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
LONGEST_README = 219  # lines
LARGEST_PICTURE = 150_000  # bytes
THRESHOLD = 0.25

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """The page without its fenced code."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


# What is generated


def with_section(text: str, name: str, content: str) -> str:
    """The text with other content between the markers of that name."""
    pattern = re.compile(rf"(<!-- {name}: begin [^\n]*-->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    assert len(pattern.findall(text)) == 1, name
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def parameter_tables() -> str:
    """A table for each section: name, value in params.yaml and meaning of each parameter."""
    values = read_yaml(ROOT / "params.yaml")
    sections = [(f"{name}.", section) for name, section in SECTIONS.items()]
    sections.insert(2, ("", TrainConfig))
    lines = []
    for prefix, section in sections:
        heading = (section.__doc__ or "").splitlines()[0].removesuffix(".")
        lines += [f"## {heading}", "", "| parameter | default | what it means | values |"]
        lines.append("|---|---|---|---|")
        allowed = dict(values_of(section, prefix))
        for key, meaning in describe(section, prefix):
            value = values
            for part in key.split("."):
                value = value[part]
            lines.append(f"| `{key}` | `{show(value)}` | {meaning} | {allowed[key]} |")
        lines.append("")
    return "\n".join(["", *lines])


def values_of(section: type[Section], prefix: str) -> Iterator[tuple[str, str]]:
    """The choices or the range of each parameter, nested sections included."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from values_of(kind, f"{prefix}{name}.")
        elif get_origin(kind) is Literal:
            yield prefix + name, ", ".join(f"`{choice}`" for choice in get_args(kind))
        else:
            yield prefix + name, expected_range(field, None)


def tree() -> str:
    """The project's folders, and the first line of each room's docstring."""
    rooms = {f"    {room}/": first_line(PACKAGE / room / "__init__.py") for room in ROOMS}
    entries = {
        "params.yaml": "every parameter",
        "recipes/": "named values of parameters",
        "dvc.yaml": "the pipeline: what each stage needs and makes",
        "pipeline/": "a thin script for each stage",
        "src/deepsort_reid/": "the library, in rooms",
        **rooms,
        "tests/": "a folder for each room",
        "benchmarks/": "what is measured against what",
        "cluster/": "files for SLURM, Kubernetes, SkyPilot and docker compose",
        "examples/": "a service that loads the network in production",
        "docs/": "the pages above",
        ".ci/run": "everything that a change must pass",
    }
    for name in entries.keys() - rooms.keys():
        assert (ROOT / name).exists(), name
    return "\n".join(["```", *(f"{name:<19} {what}" for name, what in entries.items()), "```"])


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without the full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.splitlines()[0].removesuffix(".")


def test_the_tables_of_parameters() -> None:
    text = text_of(PARAMETERS)
    assert with_section(text, "parameters", parameter_tables()) == text


def test_the_tree_of_rooms() -> None:
    text = text_of(README)
    assert with_section(text, "tree", tree()) == text


# Form


def test_the_readme_is_short_and_names_the_tests() -> None:
    lines = text_of(README).splitlines()
    assert len(lines) <= LONGEST_README
    assert "uv run pytest" in lines
    assert "uv run pytest -m slow" in lines


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {target for target in links(README) if target.endswith(".md")}
    assert {page.relative_to(ROOT).as_posix() for page in PAGES[1:]} <= linked


def test_pictures_are_small_and_shown() -> None:
    pictures = {path for path in DOCS.iterdir() if path.suffix != ".md"}
    shown = {(page.parent / target).resolve() for page in PAGES for target in links(page)}
    assert pictures
    assert pictures <= shown
    assert max(path.stat().st_size for path in pictures) < LARGEST_PICTURE


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures, but for those elsewhere on the web."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if not target.startswith("http")]


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


# What the pages name


@each_page
def test_files_that_are_named_exist_or_are_made(page: Path) -> None:
    quoted = re.findall(r"`([\w./-]+)`", prose(page))
    for name in quoted:
        if re.match(r"(models|reports)/[\w.]+$", name):
            assert name in made(), name
        elif re.match(r"(src|tests|benchmarks|pipeline)/", name):
            assert (ROOT / name).exists(), name
        elif re.match(rf"({'|'.join(ROOMS)})/.", name):  # `data` is a room and a folder of outputs
            assert (PACKAGE / name).exists() or name in made(), name


def made() -> set[str]:
    """The outputs of all stages."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    return {
        out if isinstance(out, str) else next(iter(out))
        for stage in stages
        for kind in ("outs", "metrics")
        for out in stage.get(kind, [])
    }


@each_page
def test_parameters_that_are_named_exist(page: Path) -> None:
    known = set(meanings())
    known |= {key.rpartition(".")[0] for key in known}
    pattern = rf"`((?:{'|'.join(SECTIONS)})\.[\w.]+)(?:: [^`]+)?`"
    for name in re.findall(pattern, prose(page)):
        if not re.search(r"\.(json|jpg|csv|py)$", name):
            assert name in known, name


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in a page's shell code and quotations, without `uv run`."""
    code = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    quoted = re.findall(r"`(uv run [^`]+|dvc [^`]+|python [^`]+|deepsort-reid [^`]+)`", prose(page))
    for line in [*code.splitlines(), *quoted]:
        words = shlex.split(line, comments=True)
        for separate, group in itertools.groupby(words, lambda word: word == "&&"):
            command = [word for word in group if not separate]
            while command and re.match(r"uv|run|srun|--script|--with|[A-Z_]+=|\w+==", command[0]):
                command.pop(0)
            if command:
                yield command


@each_page
def test_commands_can_be_typed(page: Path) -> None:
    for program, *arguments in commands(page):
        if program == "dvc":
            check_dvc(arguments)
        elif program == "deepsort-reid":
            check_command(arguments)
        elif program == "pytest":
            names = [name for name in arguments if name.startswith("tests")]
            assert all((ROOT / name).exists() for name in names), arguments
        elif program in ("python", "torchrun"):
            check_python(arguments)
        elif program.endswith(".py"):
            options = {word for word in arguments if word.startswith("--")}
            assert all(f'"{option}"' in text_of(ROOT / program) for option in options), arguments


def check_python(arguments: list[str]) -> None:
    """A module or a script that is run exists."""
    if arguments[:1] == ["-m"]:
        parts = arguments[1].split(".")
        path = (ROOT if parts[0] == "tests" else ROOT / "src").joinpath(*parts)
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), arguments
    else:
        saved = re.findall(r"^# (footage/\w+\.py)$", text_of(DOCS / "video.md"), re.MULTILINE)
        assert any((ROOT / word).is_file() or word in saved for word in arguments), arguments


def check_command(arguments: list[str]) -> None:
    """The command knows the subcommand and its options; what stands in capitals is the reader's."""
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    if arguments[:1] == ["--help"]:
        return
    name, *rest = arguments
    assert name in known, arguments
    options = {option for parameter in known[name].params for option in parameter.opts}
    asked = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    assert name == "lineage" or asked <= options | {"--help"}, arguments
    if name == "recipe" and rest and rest[0].islower():
        assert (ROOT / "recipes" / f"{rest[0]}.yaml").exists(), arguments


def check_dvc(arguments: list[str]) -> None:
    """DVC knows the command and its options, and the changed parameters go together."""
    from dvc.cli import parse_args

    options = parse_args(arguments)
    changes = [change.partition("=") for change in getattr(options, "set_param", None) or []]
    choices = [
        [(key, one) for one in (value.split(",") if options.queue else [value])]
        for key, _, value in changes
    ]
    for chosen in itertools.product(*choices):
        values: dict[str, Any] = read_yaml(ROOT / "params.yaml")
        for key, value in chosen:
            *sections, name = key.split(".")
            target = values
            for section in sections:
                target = target[section]
            assert name in target, key
            target[name] = parse_yaml(value)
        parse(values)


# Code


@each_page
def test_python_can_be_parsed_and_imports_what_there_is(page: Path) -> None:
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deepsort_reid"):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), code


def test_the_readme_s_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained()
    for name in ("models", "reports"):
        (tmp_path / name).mkdir()
    checkpoint.save(tmp_path / "models/model.pth", network.net.state_dict(), network.about)
    files.write_json(tmp_path / "reports/evaluation.json", {"max_cosine_distance": THRESHOLD})
    monkeypatch.chdir(tmp_path)
    frame = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    boxes = np.array([[0, 0, 20, 40], [50, 10, 30, 60], [50, 10, 30, 60]])
    names: dict[str, Any] = {"frame": frame, "boxes": boxes}
    code, _ = blocks(README, "python")  # the second one needs a store
    exec(code, names)
    assert names["threshold"] == THRESHOLD
    assert names["embeddings"].shape == (3, 512)
    assert names["same"].shape == (3, 3)
    assert names["same"][1, 2]


if __name__ == "__main__":
    for page, name, content in (
        (PARAMETERS, "parameters", parameter_tables()),
        (README, "tree", tree()),
    ):
        page.write_text(with_section(text_of(page), name, content), encoding="utf-8")
