"""Data is read as data: no pickle, no unsafe YAML, no shell made of parameters."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deepsort_reid.core.yaml_file import CoreConstructor

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("pipeline/*.py")])

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput",
    "subprocess.getstatusoutput", "yaml.unsafe_load", "yaml.full_load", "yaml.load",
    "yaml.load_all", "pd.read_pickle", "torch.jit.load", "torch.hub.load",
}  # fmt: skip


def faults(source: str) -> Iterator[str]:
    """What in a source could execute data, by line."""
    for node in ast.walk(ast.parse(source)):
        for fault in faults_of(node):
            yield f"line {getattr(node, 'lineno', 0)}: {fault}"


def faults_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names]
        yield from (f"imports {n}" for n in names if n.split(".")[0] in FORBIDDEN_MODULES)
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in FORBIDDEN_CALLS:
            yield f"calls {name}"
        if name == "torch.load" and given.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if name == "Image.open" and "formats" not in given:
            yield "Image.open without formats, among which PostScript is a program"
        if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
            yield "np.load without allow_pickle=False"
        # "rt" keeps what it does not know as tagged text.
        if name.split(".")[-1] == "YAML" and given.get("typ") not in ("'safe'", "'rt'"):
            yield "ruamel.yaml without typ='safe' or 'rt'"
        if given.get("shell", "False") != "False":
            yield f"{name} with a shell"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_source_executes_data(path: Path) -> None:
    assert not list(faults(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "Image.open(file)",
        "from shelve import open",
        "eval(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, mmap_mode='r')",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "YAML(typ='unsafe').load(text)",
        "ruamel.yaml.YAML()",
        "subprocess.run(f'ls {name}', shell=True)",
        "os.system(command)",
    ],
)
def test_what_would_is_found(source: str) -> None:
    assert list(faults(source))


def test_our_yaml_reader_makes_plain_values_only() -> None:
    known = CoreConstructor.yaml_constructors
    names = ("null", "bool", "int", "float", "str", "seq", "map", "timestamp")
    assert set(known) == {None, *(f"tag:yaml.org,2002:{name}" for name in names)}
    assert not CoreConstructor.yaml_multi_constructors


def test_no_parameter_reaches_a_shell() -> None:
    """DVC puts `${name}` into the command before any of our code has seen the value."""
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        assert "$" not in stage["cmd"]
