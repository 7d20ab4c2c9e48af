"""The alias `production` of the registered model: moved by hand, and only through gates."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deepsort_reid.core import files
from deepsort_reid.core.errors import PromotionError, shortened
from deepsort_reid.core.secrets import masked
from deepsort_reid.runs.gates import Gate, not_worse, recorded
from deepsort_reid.runs.mlflow.registry import CHECKPOINT, CONTEXT, MODEL, answering, version_of
from deepsort_reid.runs.mlflow.store import Store, uploading
from deepsort_reid.runs.provenance import CHECKPOINT_MD5, DATA_DIGEST, measured_tag, user_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

PRODUCTION = "production"
STAGES = {"export": "export", "track": "track"}  # that measure a section; evaluate the others
TOO_FEW = ("too_few", "track_too_few")  # the run's tags that say what means little


@dataclass(frozen=True)
class Promotion:
    """What has become of a promotion.

    Attributes:
        run: the run's name.
        version: of the registered model.
        before: the version that was in production until then; None: none was.
        gates: those that were open, with the values that went through.
        doubts: what the run says its numbers have too little of.
    """

    run: str
    version: str
    before: str | None
    gates: tuple[str, ...]
    doubts: tuple[str, ...]

    @property
    def is_new(self) -> bool:
        """Whether anything was changed."""
        return self.version != self.before


def promote(
    store: Store, run_id: str, gates: Sequence[Gate], *, than: str | None = None
) -> Promotion:
    """Let the alias `production` name a run's version, if the run keeps all gates.

    Who, when and which gates stand on the version as tags. They are written before the alias is
    moved, so that whoever hears of the alias finds them.

    Args:
        store: the open store.
        run_id: MLflow's name for the run.
        gates: what its numbers must keep.
        than: an alias or a version that it must not be worse than; None: none.

    Raises:
        PromotionError: a gate is shut, or the run has no model that can be promoted.
        StoreError: the store fails.
    """
    with answering(store, f"MLflow store {masked(store.uri)} has not promoted the run"):
        client = store.client
        run = client.get_run(run_id)
        version = promotable(client, run)
        before = in_production(client)
        wanted = [*gates, *(gates_of_other(client, run, gates, than) if than else [])]
        if wrong := mismeasured(run, wanted):
            raise PromotionError(
                f"run {run.info.run_name} is not promoted: its {told(run, wrong)}; measure its "
                f"own: uv run dvc repro -f -s {stage_of(wrong)}"
            )
        values = run.data.metrics
        if shut := [text for gate in wanted if (text := gate.failure(values))]:
            raise PromotionError(f"run {run.info.run_name} is not promoted: {'; '.join(shut)}")
        made = Promotion(
            run=str(run.info.run_name),
            version=str(version.version),
            before=before,
            gates=tuple(gate.told(values) for gate in wanted),
            doubts=tuple(doubts(run, wanted)),
        )
        if made.is_new:
            for name, text in record(made).items():
                client.set_model_version_tag(MODEL, made.version, name, text)
            client.set_registered_model_alias(MODEL, PRODUCTION, made.version)
    return made


def promotable(client: "MlflowClient", run: "Run") -> "ModelVersion":
    """The version of a run's model, whose bytes are those that the run has measured.

    Raises:
        PromotionError: the run has not ended well, or has no such model.
    """
    name = run.info.run_name
    if run.info.status != "FINISHED":
        raise PromotionError(f"run {name} is not promoted: it is {run.info.status}, not FINISHED")
    version = version_of(client, run.info.run_id)
    if version is None:
        raise PromotionError(
            f"run {name} is not promoted: it has no version of the registered model {MODEL}; if it "
            "trained one, send it: uv run deepsort-reid deliver"
        )
    stated = run.data.tags.get(CHECKPOINT_MD5)
    kept = checkpoint_md5(client, run.info.run_id)
    if stated is None or kept != stated:
        raise PromotionError(
            f"run {name} is not promoted: its checkpoint is {shown(kept)}, but it says that it "
            f"made {shown(stated)}"
        )
    return version


def checkpoint_md5(client: "MlflowClient", run_id: str) -> str | None:
    """The MD5 of the checkpoint that a run keeps; None if it keeps none."""
    folder = CHECKPOINT.rpartition("/")[0]
    if all(item.path != CHECKPOINT for item in client.list_artifacts(run_id, folder)):
        return None
    with uploading(), tempfile.TemporaryDirectory() as place:
        return files.md5(Path(client.download_artifacts(run_id, CHECKPOINT, place)))


def shown(md5: str | None) -> str:
    """A checksum's beginning, in messages."""
    return "missing" if md5 is None else shortened(md5)


def mismeasured(run: "Run", gates: Sequence[Gate]) -> Gate | None:
    """The first gate whose number, as the run says, is of another checkpoint than its own."""
    own = (None, run.data.tags.get(CHECKPOINT_MD5))
    return next((gate for gate in gates if measured_on(run, gate) not in own), None)


def told(run: "Run", wrong: Gate) -> str:
    """Which checkpoints a number that is `mismeasured` and its run are of."""
    own = shown(run.data.tags.get(CHECKPOINT_MD5))
    measured = shown(measured_on(run, wrong))
    return f"{wrong.metric} was measured on checkpoint {measured}, but it made {own}"


def stage_of(gate: Gate) -> str:
    """The stage that measures a gate's metric."""
    return STAGES.get(recorded(gate.metric).partition("/")[0], "evaluate")


def measured_on(run: "Run", gate: Gate) -> str | None:
    """The MD5 of the checkpoint that a gate's metric was measured on; None if no tag says it."""
    return run.data.tags.get(measured_tag(stage_of(gate)))


def doubts(run: "Run", gates: Sequence[Gate]) -> Iterator[str]:
    """What to know before trusting a run's numbers, a line each."""
    for name in TOO_FEW:
        if run.data.tags.get(name, "no") not in ("no", "not scored"):
            yield f"not meaningful, too few {run.data.tags[name]}"
    if run.data.tags.get("worse_than_no_appearance") == "true":
        yield "in the tracker, the network is worse than no appearance"
    if unsaid := [gate.metric for gate in gates if measured_on(run, gate) is None]:
        names = ", ".join(dict.fromkeys(unsaid))
        yield f"the run does not say on which checkpoint {names} was measured"


def in_production(client: "MlflowClient") -> str | None:
    """The version that the alias names now."""
    version = client.get_registered_model(MODEL).aliases.get(PRODUCTION)
    return None if version is None else str(version)


def gates_of_other(
    client: "MlflowClient", run: "Run", gates: Sequence[Gate], than: str
) -> list[Gate]:
    """Gates that ask for what another version has; none if nothing is in production yet.

    Args:
        client: what talks to the store.
        run: that is to be promoted.
        gates: what is asked for anyway.
        than: an alias, or a version's number.

    Raises:
        PromotionError: there is no such version, or its numbers cannot be compared.
    """
    aliases = client.get_registered_model(MODEL).aliases
    number = than if than.isdigit() else aliases.get(than)
    if number is None and than == PRODUCTION:
        return []
    known = {str(one.version): one for one in client.search_model_versions(f"name = '{MODEL}'")}
    if str(number) not in known:
        raise PromotionError(
            f"--than {than}: {MODEL} has no such alias or version; known: "
            f"{', '.join([*aliases, *sorted(known, key=int)])}"
        )
    other = client.get_run(str(known[str(number)].run_id))
    found = not_worse(gates, other.data.metrics, than)
    if why := incomparable(run, other, found):
        raise PromotionError(
            f"run {run.info.run_name} is not promoted: --than {than} is version {number}, run "
            f"{other.info.run_name}, {why}"
        )
    return found


def incomparable(run: "Run", other: "Run", gates: Sequence[Gate]) -> str | None:
    """Why the numbers of two runs cannot be compared; None if they can.

    Args:
        run: the one.
        other: the other, which the words are about.
        gates: what is to be compared.
    """
    if other.data.tags.get(DATA_DIGEST) != run.data.tags.get(DATA_DIGEST):
        return "which was measured on other data; leave --than out, or evaluate both on the same"
    if any(stage_of(gate) == "track" for gate in gates):
        both = videos(run), videos(other)
        if both[0] != both[1] or len(both[0]) != 1:
            return (
                "which is not known to have tracked on the same videos; leave --than out, or run "
                "stage track of both on the same"
            )
    wrong = mismeasured(other, gates)
    return f"whose {told(other, wrong)}; leave --than out" if wrong else None


def videos(run: "Run") -> set[str]:
    """The digests of the videos that a run was tracked on; several if it was measured again."""
    return {
        entry.dataset.digest
        for entry in (run.inputs.dataset_inputs if run.inputs else ())
        if any((tag.key, tag.value) == (CONTEXT, "track") for tag in entry.tags)
    }


def record(made: Promotion) -> dict[str, str]:
    """Who, when and through which gates, as tags of the version."""
    return {
        "promoted_by": user_name() or "unknown",
        "promoted_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "promoted_through": "; ".join(made.gates) or "no gate",
        "promoted_after": f"version {made.before}" if made.before else "none",
    }
