"""Every way leads to a checkpoint, and the first thing that differs here is named."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from deepsort_reid.core import files
from deepsort_reid.core.config import SECTIONS, load_params
from deepsort_reid.core.errors import LineageError, WeightsError
from deepsort_reid.data.split import digest_of
from deepsort_reid.lineage import __main__ as lineage
from deepsort_reid.lineage import git as history
from deepsort_reid.lineage import workspace
from deepsort_reid.runs import provenance, store
from deepsort_reid.training import fingerprint
from deepsort_reid.training.fingerprint import Fingerprint
from tests.support import stages, stores

KEY = "0123456789abcdef" * 2
DATA = digest_of("folders", False, {}, {})
NOTHING = Fingerprint({}, {}, {}, {})
DECLARED: dict[str, Any] = {
    "download": {"cmd": "fetch", "deps": ["pipeline/download.py"], "outs": ["data/raw"]},
    "split": {"cmd": "deal", "deps": ["data/raw", "pipeline/split.py"], "outs": ["data/split"]},
    "train": {"cmd": "learn", "deps": ["data/split", "pipeline/train.py"]},
}


def git(*arguments: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(message: str) -> str:
    git("add", ".")
    git("commit", "-qm", message)
    return git("rev-parse", "HEAD")


def set_params(**changes: Any) -> None:
    stages.write_params(Path(), {name.replace("__", "."): value for name, value in changes.items()})


def write_lock(md5: str) -> None:
    """Write dvc.lock as dvc would after running all stages."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    of_train = [key for key in params if key not in SECTIONS]
    keys = {
        "download": ["dataset.source", "dataset.synthetic"],
        "split": ["split", "dataset.layout", "dataset.mot"],
        "train": of_train,
    }
    locked = {}
    for stage, declared in DECLARED.items():
        scripts = [path for path in declared["deps"] if path.endswith(".py")]
        folders = [path for path in declared["deps"] if not path.endswith(".py")]
        locked[stage] = {
            "cmd": declared["cmd"],
            "deps": [
                *({"path": path, "md5": "00.dir", "nfiles": 2} for path in folders),
                *({"path": path, "md5": files.md5(Path(path))} for path in scripts),
            ],
            "params": {"params.yaml": {key: stated(params, key) for key in keys[stage]}},
            "outs": [{"path": path, "md5": "00.dir"} for path in declared.get("outs", [])],
        }
    locked["train"]["outs"] = [{"path": workspace.CHECKPOINT, "md5": md5}]
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": locked}))


def stated(params: Any, key: str) -> Any:
    """A parameter, or a section of them, by its name with dots."""
    for name in key.split("."):
        params = params[name]
    return params


def train(key: str = KEY, **about: Any) -> str:
    """Leave what the pipeline leaves; return the checkpoint's MD5."""
    summary = {"layout": "folders", "digest": DATA, "tuning": False, "counts": {}, "files": {}}
    files.write_json(Path("data/split/summary.json"), summary)
    made_of = workspace.would_be(load_params(), NOTHING, Path.cwd(), keep_data=False).as_plain()
    content = {"net_dict": {}, "epoch": 3, "acc": 75.0, "identity": made_of, **about}
    Path("models").mkdir(exist_ok=True)
    torch.save(content, workspace.CHECKPOINT)
    files.write_json(Path("reports/identity.json"), content["identity"])
    files.write_json(Path("reports/train.json"), {"best_epoch": 3, "best_val_error": 0.25})
    files.write_json(
        Path("reports/split.json"), {"train": {"images": 20}, "val": {"images": 4}, "tuning": True}
    )
    files.write_json(Path("reports/run.json"), {"key": key, "run_id": None, "run_name": "misty"})
    md5 = files.md5(Path(workspace.CHECKPOINT))
    write_lock(md5)
    return md5


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which the pipeline has run; nobody has recorded it in MLflow."""
    stores.forget_mlflow(monkeypatch)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.chdir(tmp_path)
    for folder in (".dvc", "pipeline", "data/raw"):
        Path(folder).mkdir(parents=True)
    for stage in DECLARED:
        Path(f"pipeline/{stage}.py").write_text("one\n")
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": DECLARED}))
    Path(".gitignore").write_text("/data\n/models\n/mlflow.db*\n")
    monkeypatch.setattr(
        fingerprint,
        "code_digests",
        lambda: {"pipeline/train.py": files.sha256(Path("pipeline/train.py"))},
    )
    set_params()
    train()
    git("init", "-q", "-b", "main")
    commit("First results")
    return tmp_path


def tell(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints."""
    lineage.main(arguments)
    return capsys.readouterr().out


def status(*arguments: str) -> object:
    """The command's exit status."""
    try:
        lineage.main(arguments)
    except SystemExit as end:
        return end.code
    return 0


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What the command prints for machines."""
    content: dict[str, Any] = json.loads(tell(capsys, "--json", *arguments))
    return content


@pytest.mark.usefixtures("project")
def test_the_workspaces_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    out = tell(capsys)
    head = git("rev-parse", "--short=7", "HEAD")
    for words in (
        "checkpoint   file models/model.pth\n",
        "epoch 3, accuracy on val 75.0 %\n",
        f"md5 {files.md5(Path(workspace.CHECKPOINT))}\n",
        f"sha256 {files.sha256(Path(workspace.CHECKPOINT))}\n",
        "models/model.pth, in the workspace\n",
        "source synthetic\n",
        f"split sha256 {DATA}\n",
        "train 20 images   val 4 images\n",
        "query and gallery of people held out to choose parameters by\n",
        "split.val_fraction 0.2",
        f"1 files, all as in commit {head}\n",
        "processes 1",
        f"misty key {KEY}\n",
        f"{head} ",
        "First results   branch main\n",
        "there is no MLflow store",
    ):
        assert words in out
    assert out.endswith("\nThe workspace would make the same checkpoint.\n")
    assert not Path("mlflow.db").exists()
    assert status("--check") == 0


@pytest.mark.usefixtures("project")
def test_the_first_difference_is_named_and_all_on_demand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_params(lr=0.2, split__seed=1)
    out = tell(capsys)
    line = "stage split would run again: split.seed is 1 here, 0 there"
    first = f"The workspace would make another one: {line}\n"
    assert first in out
    assert "and 1 more differences; --all lists them\n" in out
    assert "* lr 0.01 (0.2 here)" in out
    assert tell(capsys, "--all").endswith(f"{first}  parameter lr is 0.2 here, 0.01 there\n")
    assert status("--check") == 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"dataset__layout": "mot"}, "stage split would run again: dataset.layout is mot here, "),
        ({"dataset__mot__every": 9}, "stage split would run again: dataset.mot.every is 9 here, 5"),
        ({"dataset__synthetic__junk": 7}, "stage download would run again: dataset.synthetic.junk"),
        ({"dataset__sha256": "0" * 64}, ""),  # no stage here depends on it
    ],
)
@pytest.mark.usefixtures("project")
def test_a_stage_may_depend_on_a_part_of_a_section(
    capsys: pytest.CaptureFixture[str], change: dict[str, Any], line: str
) -> None:
    set_params(**change)
    found = answer(capsys)["differences"]
    assert [text[: len(line)] for text in found] == ([line] if line else [])


@pytest.mark.usefixtures("project")
def test_a_file_of_nowhere_is_compared_by_the_data_that_is_here(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stray = tmp_path / "stray.pth"
    content = torch.load(workspace.CHECKPOINT, weights_only=True)
    torch.save({**content, "epoch": 4}, stray)
    Path("reports/identity.json").unlink()
    assert answer(capsys, str(stray))["differences"] == []
    set_params(split__seed=1)
    found = answer(capsys, str(stray))
    assert found["differences"] == ["stage split would run again: split.seed is 1 here, 0 there"]
    assert (found["same"], found["sure"]) == (False, False)
    assert found["held_by"] == []


@pytest.mark.usefixtures("project")
def test_other_code_that_leaves_the_same_data_is_no_difference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("pipeline/split.py").write_text("two\n")
    assert "may make another one: stage split would run again: pipeline/split.py differs" in tell(
        capsys, "main"
    )
    write_lock(files.md5(Path(workspace.CHECKPOINT)))  # dvc has run it
    assert answer(capsys, "main")["same"] is True


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"cmd": "other"}, "stage split would run again: its command differs"),
        (
            {"deps": ["data/raw"]},
            "stage split would run again: pipeline/split.py is no dependency any more",
        ),
        (
            {"deps": ["data/raw", "pipeline/split.py", "pipeline/train.py"]},
            "stage split would run again: pipeline/train.py is a new dependency",
        ),
    ],
)
@pytest.mark.usefixtures("project")
def test_what_dvc_yaml_says_of_a_stage_counts(
    capsys: pytest.CaptureFixture[str], change: dict[str, Any], line: str
) -> None:
    declared = DECLARED | {"split": DECLARED["split"] | change}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": declared}))
    assert answer(capsys)["differences"] == [line]


@pytest.mark.usefixtures("project")
def test_the_data_of_another_commit_is_not_the_pipelines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cached = history.cached(Path.cwd(), "00.dir")
    files.write_json(cached, [{"relpath": "summary.json", "md5": "0" * 32}])
    assert workspace.data_is_stale(Path.cwd()) == [
        "stage split would run again: data/split is not the one of dvc.lock"
    ]
    assert answer(capsys)["same"] is True  # dvc would bring back the right one


@pytest.mark.usefixtures("project")
def test_without_data_nobody_knows_what_would_be_learned_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("data/split/summary.json").unlink()
    assert "summary.json: cannot be read" in answer(capsys)["differences"][0]
    Path("data/split").rmdir()
    assert answer(capsys)["same"] is True  # the records beside it say how it was made
    Path("params.yaml").write_text("lr: abc\n")
    assert "the workspace makes none: " in answer(capsys)["differences"][0]


@pytest.mark.usefixtures("project")
def test_every_name_of_a_commit_leads_to_its_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, md5 = git("rev-parse", "HEAD"), files.md5(Path(workspace.CHECKPOINT))
    git("tag", "-am", "a version", "v1")
    git("update-ref", f"refs/exps/{first[:2]}/{first[2:]}/misty-fox", first)
    cached = history.cached(Path.cwd(), md5)
    cached.parent.mkdir(parents=True)
    Path(workspace.CHECKPOINT).rename(cached)
    set_params(lr=0.2)
    train(key="f" * 32)
    commit("Faster")
    for name in (first, first[:7], "v1", "misty-fox", "HEAD~1", "commit:v1"):
        found = answer(capsys, name)
        assert found["checkpoint"]["md5"] == md5
        assert found["checkpoint"]["places"] == [
            f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}, in DVC's cache"
        ]
        assert found["parameters"]["lr"] == 0.01
        assert found["differing_parameters"] == ["lr"]
        assert found["differences"] == ["parameter lr is 0.2 here, 0.01 there"]
        (holder,) = found["held_by"]
        assert holder["commit"] == first
        assert sorted(holder["names"]) == [f"experiment misty-fox of {first[:7]}", "tag v1"]
    cached.unlink()
    out = tell(capsys, "v1")
    assert f"git checkout {first[:7]} && dvc pull models/model.pth" in out
    assert "epoch 3, accuracy on val 75.0 %" in out


@pytest.mark.usefixtures("project")
def test_a_name_of_two_things_is_asked_back(capsys: pytest.CaptureFixture[str]) -> None:
    first = git("rev-parse", "HEAD")
    set_params(lr=0.2)
    train(key="f" * 32)
    second = commit("Faster")
    git("branch", "misty-fox", second)
    git("update-ref", f"refs/exps/{first[:2]}/{first[2:]}/misty-fox", first)
    with pytest.raises(LineageError, match=f"say which: commit:{first[:10]} .*{second[:10]}"):
        lineage.main(["misty-fox"])
    assert answer(capsys, f"commit:{first[:10]}")["parameters"]["lr"] == 0.01


@pytest.mark.parametrize("target", ["nothing", "file:nothing", "run:main", "HEAD~7", "", "-x:"])
@pytest.mark.usefixtures("project")
def test_what_leads_nowhere(target: str) -> None:
    with pytest.raises((LineageError, SystemExit), match=r"no such|2"):
        lineage.main([target])


@pytest.mark.usefixtures("project")
def test_a_file_that_is_no_checkpoint() -> None:
    with pytest.raises(WeightsError, match=r"no file of torch\.save"):
        lineage.main(["dvc.yaml"])
    torch.save({"weight": torch.zeros(1)}, "other.pth")
    with pytest.raises(LineageError, match="no checkpoint of this project"):
        lineage.main(["other.pth"])
    Path(workspace.CHECKPOINT).unlink()
    with pytest.raises(LineageError, match="missing here: bring it back"):
        lineage.main([])
    git("rm", "-q", "dvc.lock")
    with pytest.raises(LineageError, match="holds no checkpoint"):
        lineage.main([commit("Nothing")])


def test_without_git(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / ".git").rename(project / "elsewhere")
    found = answer(capsys)
    assert found["same"] is True
    assert any("no git repository" in line for line in found["unknown"])


@pytest.mark.usefixtures("project")
def test_a_checkpoint_older_than_identities(capsys: pytest.CaptureFixture[str]) -> None:
    train(identity=None)
    assert "if this is the environment it was made in" in tell(capsys)
    set_params(lr=0.2)
    assert "may make another one: stage train would run again: lr is 0.2 here" in tell(capsys)
    Path("dvc.lock").unlink()
    Path("reports/run.json").unlink()
    assert "Nobody can tell" in tell(capsys)
    assert status("--check") == 1


@pytest.mark.usefixtures("project")
def test_uncommitted_code_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pipeline/train.py").write_text("two\n")
    train()
    head, digest = git("rev-parse", "--short=7", "HEAD"), files.sha256(Path("pipeline/train.py"))
    out = tell(capsys)
    assert f"1 files, 1 of them other than in commit {head}:\n" in out
    assert f"pipeline/train.py sha256 {digest}\n" in out


def test_a_run_leads_to_its_checkpoint_by_id_key_and_name(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores.make_store(project)
    opened = store.open_store()
    md5 = files.md5(Path(workspace.CHECKPOINT))
    tags = {"run_key": KEY, **provenance.checkpoint_tags(Path(workspace.CHECKPOINT))}
    run = opened.client.create_run(opened.experiment_id, run_name="misty", tags=tags)
    opened.client.log_artifact(run.info.run_id, workspace.CHECKPOINT, "checkpoint")
    for target in (run.info.run_id, KEY, "misty", "run:misty", workspace.CHECKPOINT, "main"):
        found = answer(capsys, target)
        assert found["run"]["run_id"] == run.info.run_id, target
        assert found["checkpoint"]["md5"] == md5
        assert found["same"] is True
        assert any("artifact of the MLflow run" in place for place in found["checkpoint"]["places"])
    git("branch", "misty")  # which holds this run's checkpoint: no other thing
    assert answer(capsys, "misty")["run_key"] == KEY
    opened.client.create_run(opened.experiment_id, run_name="twin")
    other = opened.client.create_run(opened.experiment_id, run_name="twin")
    with pytest.raises(LineageError, match=f"run:{other.info.run_id}"):
        lineage.main(["twin"])
    assert "Nobody can tell" in tell(capsys, f"run:{other.info.run_id}")


@pytest.mark.usefixtures("project")
def test_a_store_that_is_down_costs_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = answer(capsys)
    assert found["same"] is True
    assert "127.0.0.1:9 cannot be opened" in found["unknown"][0]


@pytest.mark.usefixtures("project")
def test_files_at_commits() -> None:
    head = git("rev-parse", "HEAD")
    asked = [(head, "pipeline/train.py"), (head, "nothing"), (head, "pipeline"), ("0" * 40, "x")]
    assert history.contents(asked, Path.cwd()) == [b"one\n", None, None, None]
    assert history.contents([(head, "train.py")], Path("pipeline").absolute()) == [b"one\n"]


@pytest.mark.usefixtures("project")
def test_a_cache_may_lie_elsewhere() -> None:
    Path(".dvc/config.local").write_text("[cache]\n    dir = /big\n")
    assert history.cached(Path.cwd(), "abcd") == Path("/big/files/md5/ab/cd")
    Path(".dvc/config.local").write_text("[cache]\n    dir = ../near\n")
    assert history.cached(Path("/p"), "abcd") == Path("/p/.dvc/cache/files/md5/ab/cd")
