"""A small repository that holds what a pipeline has recorded, though none has run."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from deepsort_reid.core import files
from deepsort_reid.core.config import SECTIONS, load_params
from deepsort_reid.data.packed import digest_of
from deepsort_reid.lineage import headline, workspace
from deepsort_reid.lineage.records import CHECKPOINT
from deepsort_reid.training.fingerprint import Fingerprint
from tests.support import stages

KEY = "0123456789abcdef" * 2
DATA = digest_of("folders", False, {}, {})
NOTHING = Fingerprint({}, {}, {}, {})
DECLARED: dict[str, Any] = {
    "download": {"deps": ["pipeline/download.py"], "outs": ["data/raw"]},
    "split": {"deps": ["data/raw", "pipeline/split.py"], "outs": ["data/split"]},
    "train": {"deps": ["data/split", "pipeline/train.py"], "outs": [CHECKPOINT]},
}


@dataclass
class FakeDvc:
    """Answers as DVC would, without its process.

    Attributes:
        status: what `dvc status --json` says of the workspace and its own dvc.lock.
        since: what it says beside another dvc.lock; the same if None.
    """

    status: dict[str, Any] = field(default_factory=dict)
    since: dict[str, Any] | None = None

    def ask(self, *arguments: str, at: Path) -> str:
        """What `dvc_cli.ask_dvc` returns."""
        if arguments == ("cache", "dir"):
            return f"{at}/.dvc/cache\n"
        assert arguments[:2] == ("status", "--json")
        is_workspace = at.samefile(Path.cwd())
        found = self.status if is_workspace or self.since is None else self.since
        return json.dumps(found)


def params_changed(**names: str) -> dict[str, Any]:
    """DVC's words for changed parameters: stage=`section`."""
    return {
        stage: [{"changed deps": {"params.yaml": {name: "modified"}}}]
        for stage, name in names.items()
    }


def git(*arguments: str) -> str:
    """What git prints in the current folder."""
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(message: str) -> str:
    """Commit everything; return the hash."""
    git("add", ".")
    git("commit", "-qm", message)
    return git("rev-parse", "HEAD")


def set_params(**changes: Any) -> None:
    """Write params.yaml: `split__seed=1`."""
    stages.write_params(Path(), {name.replace("__", "."): value for name, value in changes.items()})


def write_lock(md5: str) -> None:
    """Write dvc.lock as DVC would after all stages have run."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    keys = {
        "download": ["dataset.source", "dataset.synthetic"],
        "split": ["split", "dataset.layout", "dataset.mot"],
        "train": [key for key in params if key not in SECTIONS],
    }
    locked = {
        stage: {
            "cmd": stage,
            "deps": [{"path": path, "md5": "00.dir"} for path in declared["deps"]],
            "params": {"params.yaml": {key: stated(params, key) for key in keys[stage]}},
            "outs": [
                {"path": path, "md5": md5 if path == CHECKPOINT else "00.dir"}
                for path in declared["outs"]
            ],
        }
        for stage, declared in DECLARED.items()
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": locked}))


def stated(params: Any, key: str) -> Any:
    """A parameter, or a section of them, by its name with dots."""
    for name in key.split("."):
        params = params[name]
    return params


def record(key: str = KEY, **about: Any) -> str:
    """Leave in the current folder what the pipeline leaves; return the checkpoint's MD5.

    Args:
        key: the run's.
        about: what the checkpoint says of itself.
    """
    summary = {"layout": "folders", "digest": DATA, "tuning": False, "counts": {}, "files": {}}
    files.write_json(Path("data/split/summary.json"), summary)
    made_of = workspace.identity_here(load_params(), NOTHING, Path.cwd(), keep_data=False)
    content = {"net_dict": {}, "epoch": 3, "acc": 75.0, "identity": made_of.as_plain(), **about}
    Path("models").mkdir(exist_ok=True)
    torch.save(content, CHECKPOINT)
    reports = {
        "identity": content["identity"],
        "train": {"best_epoch": 3, "best_val_error": 0.25},
        "split": {"train": {"images": 20}, "val": {"images": 4}, "tuning": True},
        "run": {"key": key, "run_id": None, "run_name": "misty"},
    }
    for name, report in reports.items():
        files.write_json(Path(f"reports/{name}.json"), report)
    parts = {"training": reports["train"], **{n: reports[n] for n in ("run", "identity", "split")}}
    files.write_json(Path("reports/record.json"), headline.record(parts, Path(CHECKPOINT)))
    md5 = files.md5(Path(CHECKPOINT))
    write_lock(md5)
    return md5
