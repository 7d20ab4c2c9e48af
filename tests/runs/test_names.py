"""Names and values as MLflow takes them."""

import pytest
from mlflow.entities import Metric

from deepsort_reid.runs import names
from deepsort_reid.runs.mlflow import store
from tests.support.stores import forget_mlflow, make_store


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("train_loss", "train_loss"),
        ("rank@1", "rank_1"),
        ("val/mAP[0]", "val/mAP_0_"),
        ("/a//../b", "a/b"),
        ("..", "_"),
        ("a,b\n", "a_b_"),
        ("images per second: all", "images per second: all"),
    ],
)
def test_valid_name(name, valid):
    assert names.valid_name(name) == valid


def test_every_valid_name_is_one_mlflow_takes(tmp_path, monkeypatch):
    make_store(tmp_path)
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    opened = store.open_store()
    run = opened.client.create_run(opened.experiment_id)
    characters = [chr(code) for code in range(1, 400)]
    odd = [*characters, "a/./b", "/", "", "./", "a//", "x" * 999]
    valid = sorted({names.valid_name(name) for name in odd})
    opened.client.log_batch(run.info.run_id, metrics=[Metric(name, 1.0, 0, 0) for name in valid])


def test_tags_are_text():
    tags = {"cameras_known": True, "queries": 113, "threshold": 0.25, "name": "True"}
    assert names.valid_tags(tags) == {
        "cameras_known": "true", "queries": "113", "threshold": "0.25", "name": "True",
    }  # fmt: skip


def test_flattened():
    nested = {"lr": 0.1, "split": {"seed": 0, "deep": {"er": None}}, "empty": {}}
    assert names.flattened(nested) == {"lr": 0.1, "split.seed": 0, "split.deep.er": None}
    assert names.valid_params({"a": {"b@": "x" * 7000}})["a.b_"] == "x" * 5999 + "…"
