"""The split that trials share: when it is made anew; what a study is bound to."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from deepsort_reid.cli.search import fixed
from deepsort_reid.core import files
from deepsort_reid.core.errors import ConfigError, WeightsError
from deepsort_reid.core.signals import LAUNCHER
from deepsort_reid.search import held_out
from tests.search.test_space import space_of

VARIED = {"lr": [0.1, 0.2]}


def test_a_folder_without_dvc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no DVC project; run a search where"):
        held_out.check_project(tmp_path)


def test_the_split_is_made_anew_when_its_code_has_changed_and_weights_are_brought_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    digests = {"split.py": "a", "train.py": "b"}
    monkeypatch.setattr(held_out, "download", lambda _: "raw")
    monkeypatch.setattr(held_out, "run", lambda _command, _folder, stage, _root: ran.append(stage))
    monkeypatch.setattr(held_out, "read_summary", lambda _: None)
    monkeypatch.setattr(held_out, "code_digests", lambda path: {path.name: digests[path.name]})
    params = space_of(tmp_path, VARIED).params

    def stages() -> list[str]:
        ran.clear()
        held_out.prepare(tmp_path / "base", params, tmp_path)
        return ran

    assert stages() == ["split", "weights"]
    assert stages() == ["weights"]
    digests["train.py"] = "c"
    assert stages() == ["weights"]
    digests["split.py"] = "c"
    assert stages() == ["split", "weights"]


def test_the_code_of_a_score_is_that_of_all_its_stages() -> None:
    codes = [held_out.code("train"), held_out.code("train", "evaluate"), held_out.code("split")]
    assert len(set(codes)) == 3


def test_files_of_weights_are_told_apart_by_their_content(tmp_path: Path) -> None:
    for name in ("weights", "teacher"):
        files.write_text(tmp_path / "data" / name, "none\n")
    space = space_of(tmp_path, VARIED)
    before = held_out.weights(tmp_path, space)
    assert sorted(before) == ["teacher", "weights"]
    files.write_text(tmp_path / "data/weights", "other")
    after = held_out.weights(tmp_path, space)
    assert after["weights"] != before["weights"]
    assert after["teacher"] == before["teacher"]


def test_likewise_where_they_vary(tmp_path: Path) -> None:
    for name in ("weights", "teacher", "w.pth"):
        files.write_text(tmp_path / "data" / name, "none\n")
    path = tmp_path / "data/w.pth"
    space = space_of(tmp_path, {"weights": [None, str(path), "models:/reid@best"]})
    before = held_out.weights(tmp_path, space)
    assert sorted(before) == ["teacher", f"weights {path}"]
    files.write_text(path, "other")
    assert held_out.weights(tmp_path, space) != before
    path.unlink()
    with pytest.raises(WeightsError, match="no such file"):
        held_out.weights(tmp_path, space)


def test_a_stage_ends_with_the_search_and_dvc_s_with_dvc(tmp_path: Path) -> None:
    says = f"import os; open('told', 'w').write(os.environ.get('{LAUNCHER}', 'nobody'))"
    base = tmp_path / "base"
    base.mkdir()
    for folder in (base, tmp_path):
        held_out.run([sys.executable, "-c", says], folder, "split", tmp_path)
    assert (base / "told").read_text() == str(os.getpid())
    assert (tmp_path / "told").read_text() == "nobody"


def test_a_study_is_not_bound_to_what_changes_no_score(tmp_path: Path) -> None:
    bound: dict[str, Any] = fixed(space_of(tmp_path, VARIED))
    assert not {"lr", "amp", "num_workers", "run", "export", "track"} & bound.keys()
    assert not {"ranked_queries", "false_match_rate"} & bound["evaluate"].keys()
    assert {"nproc_per_node", "weights", "split"} <= bound.keys()
    assert "batch_size" in bound["evaluate"]
