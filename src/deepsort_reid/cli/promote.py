"""A run's model into production, if its numbers are good enough."""

from collections.abc import Sequence

from deepsort_reid.core.errors import PromotionError, StoreError
from deepsort_reid.lineage.recorded_run import RecordedRun, RunSearch, open_existing
from deepsort_reid.runs.gates import Gate, bound_of, parse_gate
from deepsort_reid.runs.mlflow import promotion
from deepsort_reid.runs.mlflow.promotion import PRODUCTION, Promotion
from deepsort_reid.runs.mlflow.registry import MODEL, run_id_of

SHOWN = 5  # runs of one name


def promote(run: str, gates: Sequence[Gate], *, than: str | None = None) -> str:
    """Promote a run's model, and say so in a few lines.

    Args:
        run: its name, id or key, its DVC experiment, or `models:/deepsort-reid@best`.
        gates: what its numbers must keep.
        than: an alias or a version that it must not be worse than; None: none.

    Raises:
        PromotionError: there is no such run, there are several, or a gate is shut.
        StoreError: there is no store, or it fails.
    """
    store = open_existing()
    run_id = run_id_of(store, run) if run.startswith("models:/") else the_one(run).run_id
    return told(promotion.promote(store, run_id, gates, than=than))


def gates_of(
    min_map: str | None, max_switches: str | None, least: Sequence[str], most: Sequence[str]
) -> list[Gate]:
    """The gates that the options state.

    Raises:
        ConfigError: one is none.
    """
    named = []
    if min_map is not None:
        named.append(Gate("mAP", "min", bound_of("mAP", min_map, "--min-map"), "--min-map"))
    if max_switches is not None:
        bound = bound_of("switches", max_switches, "--max-switches")
        named.append(Gate("switches", "max", bound, "--max-switches"))
    return [
        *named,
        *(parse_gate(text, "min") for text in least),
        *(parse_gate(text, "max") for text in most),
    ]


def the_one(text: str) -> RecordedRun:
    """The run that a text means.

    Raises:
        PromotionError: there is none, or there are several.
        StoreError: the store does not answer.
    """
    search = RunSearch()
    found = search.named(text)
    if search.failure:
        raise StoreError(search.failure)
    if not found:
        raise PromotionError(
            f"{text}: no run of this name, id or key in the MLflow store; a run's page shows them"
        )
    if len(found) > 1:
        ways = ", ".join(f"{one.run_id} (of {one.started})" for one in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise PromotionError(f"{text}: {len(found)} runs have this name; say which: {ways}{more}")
    return found[0]


def told(made: Promotion) -> str:
    """A promotion in a few lines."""
    through = f": {'; '.join(made.gates)}" if made.gates else ", through no gate"
    if not made.is_new:
        first = f"version {made.version} ({made.run}) is in production already{through}"
    else:
        before = f" after version {made.before}" if made.before else ""
        first = f"version {made.version} ({made.run}) is in production{before}{through}"
    return "\n".join([first, *(f"  {line}" for line in made.doubts),
                      f"  to load it: models:/{MODEL}@{PRODUCTION}"])  # fmt: skip
