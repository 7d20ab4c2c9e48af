"""The README's table of parameters, its tree and its commands are the project's own.

`python -m tests.test_readme` writes table and tree anew.
"""

import ast
import re
from pathlib import Path

import yaml

from deepsort_reid.core.config import (
    DatasetConfig,
    EvaluateConfig,
    ExportConfig,
    RunConfig,
    SplitConfig,
    TrackConfig,
    TrainConfig,
    describe,
)
from deepsort_reid.core.yaml_file import read_yaml, show

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def parameter_table() -> str:
    """A row for each parameter: its name, the value in params.yaml, what it means."""
    values = read_yaml(ROOT / "params.yaml")
    rows = [
        ("dataset.", DatasetConfig),
        ("split.", SplitConfig),
        ("", TrainConfig),
        ("run.", RunConfig),
        ("evaluate.", EvaluateConfig),
        ("export.", ExportConfig),
        ("track.", TrackConfig),
    ]
    lines = ["| parameter | default | what it means |", "|---|---|---|"]
    for prefix, config in rows:
        for key, doc in describe(config, prefix):
            value = values
            for part in key.split("."):
                value = value[part]
            lines.append(f"| `{key}` | `{show(value)}` | {doc} |")
    return "\n".join(lines)


def tree() -> str:
    """The project's folders, and the first line of each module's docstring."""
    top = {
        "params.yaml": "every parameter",
        "dvc.yaml": "the stages: what they need, what they make",
        "pipeline/": "a script for each stage",
        "src/deepsort_reid/": "the library",
        "tests/": "`uv run pytest`",
        "benchmarks/": "what is measured against what",
        "benchmarks/speed_items/": "a module for each item of speed.py",
        "Dockerfile": "the pipeline on a machine with GPUs",
        ".ci/run": "everything a change must pass",
    }
    lines = []
    for name, meaning in top.items():
        assert (ROOT / name).exists(), name
        lines.append(f"{name:<25} {meaning.replace('`', '')}")
        if name.endswith("/") and name != "tests/":
            paths = [p for p in sorted((ROOT / name).glob("*.py")) if p.stem != "__init__"]
            lines += [f"    {path.name:<21} {first_line(path)}" for path in paths]
    return "\n".join(["```", *lines, "```"])


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without the full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.splitlines()[0].removesuffix(".")


def section(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: begin [^\n]*-->\n).*?(<!-- {name}: end -->)", re.DOTALL)


def with_section(text: str, name: str, content: str) -> str:
    return section(name).sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def test_the_table_of_parameters() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_section(text, "parameters", parameter_table()) == text


def test_the_tree() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_section(text, "tree", tree()) == text


def test_every_file_it_names_is_made_or_kept() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    made = {
        out if isinstance(out, str) else next(iter(out))
        for stage in stages
        for kind in ("outs", "metrics")
        for out in stage.get(kind, [])
    }
    named = set(re.findall(r"`((?:models|reports)/[\w.]+)`", README.read_text(encoding="utf-8")))
    assert named
    assert named <= made


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    text = with_section(text, "parameters", parameter_table())
    README.write_text(with_section(text, "tree", tree()), encoding="utf-8")
