"""The alias `production` moves through gates, and back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag

from deepsort_reid.core import files
from deepsort_reid.core.errors import PromotionError, StoreError
from deepsort_reid.runs.gates import Gate
from deepsort_reid.runs.mlflow.promotion import PRODUCTION, promote
from deepsort_reid.runs.mlflow.registry import CONTEXT, MODEL
from deepsort_reid.runs.mlflow.store import Store, open_store
from deepsort_reid.runs.provenance import CHECKPOINT_MD5, DATA_DIGEST, measured_tag
from tests.support.stores import forget_mlflow

GOOD = {"reid/mAP": 0.701, "track/id_switches": 12}
POOR = {"reid/mAP": 0.651, "track/id_switches": 31}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("promotion")
    with pytest.MonkeyPatch.context() as patch:
        forget_mlflow(patch)
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        opened = open_store()
        opened.client.create_registered_model(MODEL)
        yield opened


@pytest.fixture(autouse=True)
def nothing_promoted(store: Store) -> None:
    store.client.delete_registered_model_alias(MODEL, PRODUCTION)


def trained(store: Store, metrics: dict[str, float], *, status: str = "FINISHED",
            registered: bool = True, content: str = "weights", videos: tuple[str, ...] = ("mot16",),
            **tags: str) -> str:  # fmt: skip
    """A run as a training leaves it; its id."""
    run_id = store.client.create_run(store.experiment_id, run_name="resnet").info.run_id
    path = Path("model.pth")
    path.write_text("weights")
    own = {CHECKPOINT_MD5: files.md5(path), DATA_DIGEST: "data"}
    own |= {measured_tag(stage): files.md5(path) for stage in ("evaluate", "export", "track")}
    own |= tags
    for name, text in own.items():
        store.client.set_tag(run_id, name, text)
    path.write_text(content)
    store.client.log_artifact(run_id, str(path), "checkpoint")
    for digest in videos:
        tracked_on = DatasetInput(
            Dataset("videos", digest, "local", "{}"), [InputTag(CONTEXT, "track")]
        )
        store.client.log_inputs(run_id, [tracked_on])
    for name, value in metrics.items():
        store.client.log_metric(run_id, name, value)
    store.client.set_terminated(run_id, status)
    if registered:
        store.client.create_model_version(MODEL, "file:///nowhere", run_id=run_id)
    return run_id


def production(store: Store) -> str | None:
    version = store.client.get_registered_model(MODEL).aliases.get(PRODUCTION)
    return None if version is None else store.client.get_model_version(MODEL, version).run_id


def least(value: float) -> Gate:
    return Gate("mAP", "min", value, "--min-map")


def test_promoted_again_and_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = trained(store, POOR), trained(store, GOOD)
    promote(store, old, [])
    made = promote(store, new, [least(0.7), Gate("switches", "max", 20, "--max-switches")])
    assert production(store) == new
    tags = store.client.get_model_version(MODEL, made.version).tags
    assert tags["promoted_through"] == "mAP 70.1 % >= 70 %; switches 12 <= 20"
    assert tags["promoted_after"] == f"version {made.before}"
    assert {"promoted_by", "promoted_at"} <= tags.keys()
    with monkeypatch.context() as patch:
        for name in ("set_model_version_tag", "set_registered_model_alias"):
            patch.setattr(MlflowClient, name, lambda *_: pytest.fail("it is there already"))
        assert not promote(store, new, [least(0.7)]).is_new
    promote(store, old, [])  # the rollback
    assert production(store) == old


def test_what_fails_is_said_in_one_line_and_nothing_moves(store: Store) -> None:
    run_id = trained(store, POOR)
    gates = [least(0.7), Gate("HOTA", "min", 0.5, "--min HOTA")]
    gates.append(Gate("switches", "max", 20, "--max-switches"))
    with pytest.raises(PromotionError) as caught:
        promote(store, run_id, gates)
    assert str(caught.value) == (
        "run resnet is not promoted: mAP is 65.1 %, --min-map asks for 70 %; HOTA was not "
        "measured, --min HOTA asks for 50 %; switches is 31, --max-switches asks for 20 or less"
    )
    assert production(store) is None


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"status": "FAILED"}, "it is FAILED, not FINISHED"),
        ({"registered": False}, "it has no version of the registered model deepsort-reid"),
        ({"content": "others"}, "its checkpoint is 5e2bab0ecb94, but it says that it made 63f4"),
        ({"evaluate_checkpoint_md5": "f" * 32}, "its mAP was measured on checkpoint ffffffffffff"),
    ],
)
def test_a_run_that_cannot_be_promoted(store: Store, about: dict[str, str], message: str) -> None:
    run_id = trained(store, GOOD, **about)
    with pytest.raises(PromotionError) as caught:
        promote(store, run_id, [least(0.5)])
    assert message in str(caught.value)
    assert production(store) is None


def test_not_worse_than_what_is_in_production(store: Store) -> None:
    good, poor, elsewhere = trained(store, GOOD), trained(store, POOR), trained(
        store, GOOD, data_digest="other"
    )  # fmt: skip
    promote(store, poor, [], than=PRODUCTION)  # nothing is in production yet
    promote(store, good, [], than=PRODUCTION)
    with pytest.raises(PromotionError, match=r"mAP is 65\.1 %, --than production asks for 70\.1 %"):
        promote(store, poor, [], than=PRODUCTION)
    with pytest.raises(PromotionError, match="which was measured on other data"):
        promote(store, elsewhere, [], than=PRODUCTION)
    with pytest.raises(PromotionError, match="--than champion: deepsort-reid has no such alias"):
        promote(store, good, [], than="champion")
    assert production(store) == good


@pytest.mark.parametrize("videos", [("mot17",), (), ("mot16", "mot17")])
def test_switches_on_other_videos_are_not_compared(store: Store, videos: tuple[str, ...]) -> None:
    few = Gate("switches", "max", 50, "--max-switches")
    old, new = trained(store, POOR), trained(store, GOOD, videos=videos)
    promote(store, old, [])
    with pytest.raises(PromotionError, match="not known to have tracked on the same videos"):
        promote(store, new, [few], than=PRODUCTION)
    promote(store, new, [], than=PRODUCTION)  # mAP alone has to do with no video
    assert production(store) == new


def test_switches_on_the_same_videos_are_compared(store: Store) -> None:
    few = Gate("switches", "max", 50, "--max-switches")
    old, new = trained(store, POOR), trained(store, GOOD)
    promote(store, new, [])
    with pytest.raises(PromotionError, match="switches is 31, --than production asks for 12"):
        promote(store, old, [few], than=PRODUCTION)


def test_another_version_s_numbers_must_be_its_own(store: Store) -> None:
    promote(store, trained(store, POOR, evaluate_checkpoint_md5="f" * 32), [])
    with pytest.raises(PromotionError) as caught:
        promote(store, trained(store, GOOD), [], than=PRODUCTION)
    assert "whose mAP was measured on checkpoint ffffffffffff, but it made" in str(caught.value)


def test_numbers_of_exported_files_are_of_stage_export(store: Store) -> None:
    run_id = trained(store, GOOD | {"export/least_cosine": 1}, export_checkpoint_md5="f" * 32)
    with pytest.raises(PromotionError, match="dvc repro -f -s export"):
        promote(store, run_id, [Gate("export/least_cosine", "min", 0.9, "--min")])


def test_doubts_are_told(store: Store) -> None:
    run_id = trained(store, GOOD, too_few="ranking: queries: 2 (needs 20)")
    assert promote(store, run_id, []).doubts == (
        "not meaningful, too few ranking: queries: 2 (needs 20)",
    )


def test_a_store_that_fails_is_one_line(store: Store) -> None:
    with pytest.raises(StoreError, match=r"MLflow store sqlite:.* has not promoted the run: "):
        promote(store, "0" * 32, [])
