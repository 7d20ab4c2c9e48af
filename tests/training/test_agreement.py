"""Ranks with other data, parameters or code are refused before the first step, by name."""

import re
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from deepsort_reid.core.errors import TrainingError
from deepsort_reid.training.fingerprint import Fingerprint
from deepsort_reid.training.ranks import agreement, distributed
from deepsort_reid.training.ranks.agreement import check_agreement
from deepsort_reid.training.ranks.distributed import ALONE, Process
from tests.support.ranks import on_ranks

SAME = Fingerprint(
    data={"split": "a" * 64},
    params={"lr": 0.1, "arch": "resnet18"},
    code={"pipeline/train.py": "b" * 64},
    environment={"device": "one"},
)
OTHERS = {
    "data": ({"data": {"split": "c" * 64}}, "data split: cccccccccccc here, aaaaaaaaaaaa there"),
    "a parameter": ({"params": {"lr": 0.2, "arch": "resnet18"}}, "parameter lr is 0.2 here, 0.1"),
    "code": ({"code": {"pipeline/train.py": "d" * 64}}, "code pipeline/train.py differs"),
    "a teacher": ({"data": {"split": "a" * 64, "teacher": "e" * 64}}, "data teacher: eeeeeeeeeeee"),
}


def refused(process: Process, changes: dict[str, Any], ranks: tuple[int, ...]) -> str:
    """What a rank is told; nothing if it may train."""
    own = replace(SAME, **changes) if process.rank in ranks else SAME
    try:
        check_agreement(own, process)
    except TrainingError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("other", OTHERS)
def test_a_rank_with_something_else_is_refused_by_all(other: str) -> None:
    changes, reason = OTHERS[other]
    for told in on_ranks(2, refused, changes, (1,)):
        assert told.startswith("not all ranks agree with rank 0 on ")
        assert re.search(rf": rank 1 on \S+ says: {re.escape(reason)}", told)
        assert told.endswith(agreement.REMEDY)
        assert ", and " not in told


def test_several_are_counted() -> None:
    changes, reason = OTHERS["a parameter"]
    (told, *_) = on_ranks(3, refused, changes, (1, 2))
    assert re.search(rf": rank 1 on \S+ says: {re.escape(reason)}", told)
    assert ", and 1 more; " in told
    (told, *_) = on_ranks(3, refused, changes, (0,))  # rank 0 is what the others differ from
    assert " says: parameter lr is 0.1 here, 0.2 there" in told


def test_those_who_agree_train() -> None:
    assert on_ranks(3, refused, {}, (1,)) == ["", "", ""]
    assert on_ranks(2, refused, {"environment": {"device": "two"}}, (1,)) == ["", ""]


def test_one_rank_agrees_with_itself() -> None:
    check_agreement(SAME, ALONE)


def prepared_in_turn(process: Process) -> bool:
    """Rank 1 prepares for longer than collectives may take."""
    limit, distributed.TIMEOUT = distributed.TIMEOUT, timedelta(seconds=1)
    try:
        distributed.wait_at_most(distributed.TIMEOUT)
        with agreement.succeeding_together(process):
            time.sleep(3 * process.rank)
        return True
    finally:
        distributed.TIMEOUT = limit


def test_a_rank_may_take_long_to_read_the_data() -> None:
    assert on_ranks(2, prepared_in_turn) == [True, True]


def test_a_long_reason_is_cut_off() -> None:
    changes = {"params": {"lr": "x" * 1000, "arch": "resnet18"}}
    assert all(len(told) < 700 for told in on_ranks(2, refused, changes, (1,)))
