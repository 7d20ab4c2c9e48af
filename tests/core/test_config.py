"""params.yaml is read as DVC reads it, and what is wrong with it is said in one line."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from deepsort_reid.core.config import SECTIONS, TrainConfig, describe, load_params
from deepsort_reid.core.dataset_config import DatasetConfig
from deepsort_reid.core.errors import ConfigError
from deepsort_reid.core.yaml_file import read_yaml

ROOT = Path(__file__).parents[2]


def written(tmp_path: Path, **changes: Any) -> Path:
    """The project's params.yaml with some keys changed (`split__seed`) or removed (...)."""
    content = read_yaml(ROOT / "params.yaml")
    for key, value in changes.items():
        *sections, name = key.split("__")
        target = content
        for section in sections:
            target = target[section]
        if value is ...:
            del target[name]
        else:
            target[name] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_projects_own_parameters_are_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.train.weight_decay == 4e-3  # YAML 1.1 would read `4e-3` as a text
    assert params.split.image_size == (64, 32)
    assert params.raw["split"]["image_size"] == [64, 32]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.5", 1.5),
        ("-7", -7),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("", None),
        ("010", 10),
        ("1_000", 1000),
        ("0x10", 16),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        (".inf", float("inf")),
        ("'5'", "5"),
    ],
)
def test_scalars_are_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"key: {text}\n")
    read = read_yaml(path)["key"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch'; did you mean 'epochs'?"),
        ({"split__sed": 3}, "unknown key 'split.sed'; did you mean 'split.seed'?"),
        ({"qqq": 3}, "unknown key 'qqq'; known: nnodes, nproc_per_node, seed,"),
        ({"lr": ...}, "key 'lr' is missing; every parameter must be stated"),
        ({"split": ...}, "key 'split' is missing"),
        ({"dataset__synthetic__seed": ...}, "key 'dataset.synthetic.seed' is missing"),
        ({"lr": "abc"}, "lr=abc must be a finite number"),
        ({"lr": -1.0}, "lr=-1.0 must be above 0"),
        ({"lr": float("nan")}, "lr=.nan must be a finite number"),
        ({"epochs": 1.5}, "epochs=1.5 must be a whole number"),
        ({"epochs": True}, "epochs=true must be a whole number"),
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"amp": "yes"}, "amp='yes' must be true or false"),
        ({"weights": 3}, "weights=3 must be a text"),
        ({"lrf": 1.5}, "lrf=1.5 must be at least 0 and at most 1"),
        ({"optimizer": "sdg"}, "unknown optimizer=sdg; did you mean 'sgd'?"),
        ({"arch": 18}, "arch=18 must be a text (quote it if it looks like a number)"),
        ({"freeze_layers": "conv1"}, "freeze_layers=conv1 must be a list"),
        ({"freeze_layers": [1]}, "freeze_layers[0]=1 must be a text"),
        ({"split__image_size": [128]}, "split.image_size=[128] must be a list of 2 values"),
        ({"split__image_size": [128, 8]}, "split.image_size[1]=8 must be at least 16"),
        ({"split": 3}, "split=3 must be a section of parameters"),
        ({"split__val_fraction": 1}, "split.val_fraction=1 must be above 0 and below 1"),
        ({"schedule": "step", "lrf": 0}, "schedule=step needs an lrf above 0"),
        ({"angular_margin": 0.3}, "angular_margin=0.3 needs head=cosine, but head=linear"),
        ({"num_instances": 1}, "num_instances=1 brings nothing together; expected 0, or at least"),
        ({"triplet_weight": 1}, "triplet_weight=1.0 needs num_instances of at least 2"),
        ({"last_stride": 3}, "last_stride=3 must be at least 1 and at most 2"),
        ({"ema": 1}, "ema=1 must be at least 0 and below 1"),
        ({"evaluate__rerank": 1}, "evaluate.rerank=1 must be true or false"),
        ({"evaluate__rerank_k1": 0}, "evaluate.rerank_k1=0 must be at least 1"),
        ({"evaluate__rerank_lambda": 2}, "evaluate.rerank_lambda=2 must be at least 0 and at"),
        ({"seed": 2**63}, "seed=9223372036854775808 must be a number of at most 63 bits"),
        ({"lr": True}, "lr=true must be a finite number"),
        ({"freeze_layers": {"a": 1}}, "freeze_layers={a: 1} must be a list of any number of"),
        ({"split__image_size": [64, 32, 3]}, "split.image_size=[64, 32, 3] must be a list of 2"),
        ({"dataset__mot__classes": [-1]}, "dataset.mot.classes[0]=-1 must be at least 0"),
        ({"dataset__mot__classes": [None]}, "dataset.mot.classes[0]=null must be a whole number"),
        ({"dataset__synthetic": None}, "dataset.synthetic=null must be a section of parameters"),
        ({"dataset__synthetic__cameras": 1}, "dataset.synthetic.cameras=1 must be at least 2"),
        (
            {"dataset__synthetic__images_per_identity": 3},
            "dataset.synthetic.images_per_identity=3 must be at least 4",
        ),
        ({"track__synthetic__sequences": 0}, "track.synthetic.sequences=0 must be at least 1"),
        ({"track__synthetic__frames": 0}, "track.synthetic.frames=0 must be at least 10"),
        ({"track__synthetic__people": 0}, "track.synthetic.people=0 must be at least 2"),
        ({"dataset__source": 3}, "dataset.source=3 must be a text"),
        ({"dataset__source": []}, "dataset.source=[] must be a list of entries, each a section"),
        ({"dataset__source": ["a"]}, "dataset.source[0]=a must be a section of parameters"),
        ({"dataset__source": [{"name": "a"}]}, "key 'dataset.source[0].source' is missing"),
        (
            {"dataset__source": [{"name": "a", "source": "b", "layot": "mot"}]},
            "unknown key 'dataset.source[0].layot'; did you mean 'dataset.source[0].layout'?",
        ),
        (
            {"dataset__source": [{"name": "a", "source": "b", "layout": "motx"}]},
            "unknown dataset.source[0].layout=motx; did you mean 'mot'?",
        ),
        (
            {"dataset__source": [{"name": "a/b", "source": "b"}]},
            "dataset.source[0].name=a/b must be a name of letters, digits, - and _",
        ),
        (
            {"dataset__source": [{"name": "a", "source": "b"}, {"name": "A", "source": "c"}]},
            "dataset.source names two datasets 'a'; give each a name of its own",
        ),
        (
            {"dataset__source": [{"name": "a", "source": "b"}], "dataset__table": "x.csv"},
            "dataset.table=x.csv beside several sources; state it in the entry",
        ),
        (
            {"evaluate__also": [{"name": "a", "source": "synthetic", "synthetic": {"sed": 1}}]},
            "evaluate.also[0].synthetic: unknown key 'sed'; did you mean 'seed'?",
        ),
        (
            {"dataset__source": [{"name": "a", "source": "synthetic", "synthetic": {"seed": -1}}]},
            "dataset.source[0].synthetic: seed=-1 must be at least 0",
        ),
        ({"evaluate__also": "a"}, "evaluate.also=a must be a list of entries, each a section"),
        ({"dataset__identity_level": 0}, "dataset.identity_level=0 must be at least 1"),
        ({"train": {}}, "unknown key 'train'; did you mean 'track'?"),
        ({"raw": {}}, "unknown key 'raw'; "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        load_params(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"lr: [", "line 1 is not YAML"),
        (b"lr: 1\nlr: 2\n", 'line 2 is not YAML: found duplicate key "lr" with value "2"'),
        (b"a:\n  b: 1\n  b: 1\n", 'line 3 is not YAML: found duplicate key "b"'),
        (b"lr: !!int abc", "not a YAML text: invalid literal for int() with base 10: 'abc'"),
        (b"lr: !!set {a, b}", "line 1 is not YAML: could not determine a constructor for the tag"),
        (b"[a, b]: 1", "unknown key '[a, b]'"),
        (b"? {a: 1}\n: 1", "line 1 is not YAML: found unhashable key"),
        (b"7: 1", "unknown key '7'"),
        (b"split: &s\n  <<: *s", "line 2: '<<' merges sections; state each parameter"),
        (b"- " * 9000, "nested too deeply; sections stand two deep at most"),
        (b"# \n" * 30_000, "longer than 65,536 bytes, which no file of parameters is"),
        (b"just a text", "must hold parameters"),
        (b"\xff\xfe\x00", "not a YAML text"),
        (b"a: !!python/object/apply:os.system [ls]", "line 1 is not YAML"),
        (None, "No such file or directory; run this in the project's folder"),
    ],
)
def test_a_file_that_is_no_params_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_params(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_parameter_says_what_it_means() -> None:
    for section in (*SECTIONS.values(), TrainConfig):
        assert all(doc for _, doc in describe(section))


@pytest.mark.parametrize(
    ("epochs", "warmup_epochs", "fitted"), [(12, 1, 1), (2, 1, 1), (1, 1, 0.5), (12, 99, 6)]
)
def test_the_warm_up_fits_itself_to_the_epochs(
    tmp_path: Path, epochs: int, warmup_epochs: float, fitted: float
) -> None:
    path = written(tmp_path, epochs=epochs, warmup_epochs=warmup_epochs)
    assert load_params(path).train.fitted_warmup == fitted


def test_parameters_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_params(ROOT / "params.yaml").train.lr = 1.0  # type: ignore[misc]


def test_sections_are_described_in_order() -> None:
    keys = [key for key, _ in describe(DatasetConfig, "dataset.")]
    assert keys[:3] == ["dataset.source", "dataset.sha256", "dataset.layout"]
    assert keys[7] == "dataset.mot.every"
