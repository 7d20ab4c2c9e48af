"""What ten thousand runs in a store cost the next one.

Rows: MLflow stores in SQLite with 100, 1,000 and 10,000 runs on the same data, each with a
registered version; by the seconds that a further run takes from its beginning to its delivery
(records, artifacts, model, version, promotion to the best), the seconds to see that nothing waits
to be delivered, those that MLflow takes to search the first page of its table, a hundred runs by
their mAP, and the size of the database. The runs are copies of one that was delivered: in SQL, and
of its folder by hard links.
"""

import os
import shutil
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from deepsort_reid.runs import logger
from deepsort_reid.runs.deliver import deliver_all
from deepsort_reid.runs.mlflow.store import open_store, tracking_uri
from deepsort_reid.runs.provenance import DATA_DIGEST
from speed_items.rows import Row, seconds_of, spread

COUNTS, FEW = (100, 1_000, 10_000), (10, 20)
EPOCHS, CURVES, PARAMS = 40, 12, 60
TABLES = ("runs", "tags", "params", "metrics", "latest_metrics")  # of MLflow, by run_uuid
ROUNDS = 3


def measure(quick: bool) -> Iterator[Row]:
    """The rows; see above."""
    before = os.environ.copy()
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"DVC_ROOT": name}
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        try:
            yield from grown(Path(name), FEW if quick else COUNTS)
        finally:
            os.environ.clear()
            os.environ.update(before)


def grown(root: Path, counts: tuple[int, ...]) -> Iterator[Row]:
    """A row for each size of one store that grows."""
    record(root, "first")
    made = 1
    for count in counts:
        for number in range(made, count):
            shutil.copytree(
                root / ".runs/first", root / f".runs/copy-{number}", copy_function=os.link
            )
        copy_first(root / "mlflow.db", count - made)
        made = count
        further = [seconds_of(lambda: record(root, uuid.uuid4().hex)) for _ in range(ROUNDS)]
        made += ROUNDS
        search = [seconds_of(first_page) for _ in range(ROUNDS)]
        look = [seconds_of(lambda: list(deliver_all(tracking_uri()))) for _ in range(ROUNDS)]
        size = (root / "mlflow.db").stat().st_size / 1e6
        measured = (further, look, search)
        yield Row(
            what=f"{count:,} runs: one more; is all delivered?; MLflow's first page; database",
            ours=f"{'; '.join(spread(each, 's') for each in measured)}; {size:,.0f} MB",
            other="",
            ratio=None,
            target="",
            met=None,
            n=ROUNDS,
            conditions=f"SQLite; {EPOCHS} epochs of {CURVES} curves, {PARAMS} parameters, "
            "a model of 40 kB, registered",
        )


def record(root: Path, key: str) -> None:
    """Record and deliver a run with its curves, a model, and the wish that it be the best."""
    artifact = root / "a.txt"
    artifact.write_text("a report\n")
    with logger.open_run(key=key, name=key[:7], tags={DATA_DIGEST: "0" * 12}) as run:
        run.log_params({f"section.{number}": number for number in range(PARAMS)})
        for epoch in range(1, EPOCHS + 1):
            run.log_metrics({f"curve/{n}": epoch / (n + 1) for n in range(CURVES)}, epoch)
        run.log_artifact(artifact)
        run.log_model(torch.nn.Linear(100, 100), np.zeros((2, 100), np.float32), metadata={})
        run.log_metrics({"reid/mAP": float(np.random.default_rng(len(key)).random())})
        run.promote("reid/mAP", "a version")
    # A stage does not wait for a slow store; this waits.
    while not all(outcome.is_done for outcome in deliver_all(tracking_uri())):
        time.sleep(0.05)


def copy_first(database: Path, count: int) -> None:
    """Copy the first run and its version, under new names."""
    with sqlite3.connect(database) as db:
        (first,) = db.execute("SELECT run_uuid FROM runs ORDER BY start_time LIMIT 1").fetchone()
        (version,) = db.execute("SELECT max(version) FROM model_versions").fetchone()
        for number in range(count):
            name = uuid.uuid4().hex
            for table in TABLES:
                copy_rows(db, table, {"run_uuid": first}, {"run_uuid": name})
            new = {"version": version + number + 1, "run_id": name}
            copy_rows(db, "model_versions", {"run_id": first}, new)


def copy_rows(
    db: sqlite3.Connection, table: str, which: dict[str, str], new: dict[str, object]
) -> None:
    """Copy the rows with a value, with other values in some columns."""
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    chosen = ", ".join("?" if name in new else f'"{name}"' for name in columns)
    values = [new[name] for name in columns if name in new]
    ((column, value),) = which.items()
    db.execute(
        f"INSERT INTO {table} SELECT {chosen} FROM {table} WHERE {column} = ?", [*values, value]
    )


def first_page() -> None:
    """What MLflow's page of the experiment asks for."""
    store = open_store()
    found = store.client.search_runs(
        [store.experiment_id], order_by=["metrics.`reid/mAP` DESC"], max_results=100
    )
    if not found:
        raise RuntimeError("the store has no runs")
