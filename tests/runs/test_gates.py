"""Gates: how they are written, and what they say of a run that does not keep them."""

import pytest

from deepsort_reid.core.errors import ConfigError, PromotionError
from deepsort_reid.runs.gates import Gate, bound_of, not_worse, parse_gate

VALUES = {
    "reid/mAP": 0.651, "track/id_switches": 19.0, "reid/rank-1": float("nan"), "reid/rank-5": 0.85,
    "export/least_cosine": 0.98765432,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "side", "metric", "bound"),
    [
        ("rank-1=85%", "min", "rank-1", 0.85),
        ("HOTA=0.5", "min", "HOTA", 0.5),
        ("switches=20", "max", "switches", 20),
        ("map=100%", "max", "mAP", 1),
        ("MOTA=-5%", "min", "MOTA", -0.05),
        ("track/mota=-0.2", "min", "track/mota", -0.2),
        ("track/earned/id_switches=-3", "max", "track/earned/id_switches", -3),
        ("calibration/eer_across=1e-2", "max", "calibration/eer_across", 0.01),
        ("export/least_cosine=.99", "min", "export/least_cosine", 0.99),
    ],
)
def test_a_gate_is_read(text, side, metric, bound):
    gate = parse_gate(text, side)
    assert (gate.metric, gate.side) == (metric, side)
    assert gate.bound == pytest.approx(bound)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mAP", "--min mAP: expected METRIC=VALUE, such as rank-1=85%"),
        ("=3", "expected METRIC=VALUE"),
        ("rank1=70%", "no metric 'rank1'; did you mean 'rank-1'?"),
        ("mAP=70", "--min mAP 70: expected a share: 70% or 0.7"),
        ("mAP=nan", "expected a share"),
        ("mAP=-5%", "expected a share"),
        ("MOTA=-5", "expected a share"),
        ("reid/mAP_flip=70", "--min reid/mAP_flip 70: expected a share: 70% or 0.7"),
        ("calibration/eer_across=5", "expected a share"),
        ("also-msmt17/true_match_rate_at_recommended=95", "expected a share"),
        ("switches=-1", "--min switches -1: expected a number, such as 20"),
        ("switches=20%", "--min switches 20%: expected a number, such as 20"),
        ("switches=1e999", "expected a number"),
    ],
)
def test_a_wrong_gate_is_refused(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_gate(text, "min")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "side", "bound", "failure"),
    [
        ("mAP", "min", 0.65, None),
        ("mAP", "min", 0.7, "mAP is 65.1 %, --x asks for 70 %"),
        ("mAP", "min", 0.65101, "mAP is 65.1 %, --x asks for 65.101 %"),
        ("switches", "max", 19, None),
        ("switches", "max", 10, "switches is 19, --x asks for 10 or less"),
        ("reid/rank-5", "min", 0.9, "reid/rank-5 is 85 %, --x asks for 90 %"),
        (
            "export/least_cosine",
            "min",
            0.9876544,
            "export/least_cosine is 0.98765432, --x asks for 0.9876544",
        ),
        ("HOTA", "min", 0.1, "HOTA was not measured, --x asks for 10 %"),
        ("rank-1", "min", 0.1, "rank-1 is nan %, --x asks for 10 %"),
    ],
)
def test_a_gate_says_what_fails(metric, side, bound, failure):
    assert Gate(metric, side, bound, "--x").failure(VALUES) == failure


def test_no_worse_than_another_version():
    other = {"reid/mAP": 0.6, "track/id_switches": 10.0, "track/hota": 0.5}
    gates = not_worse([Gate("switches", "max", 30, "--max-switches")], other, "production")
    assert [gate.failure(VALUES) for gate in gates] == [
        None,
        "switches is 19, --than production asks for 10 or less",
    ]
    assert bound_of("mAP", "70 %", "--min-map") == pytest.approx(0.7)


def test_a_version_without_a_number_cannot_be_compared_with():
    assert not_worse([], {"mAP": 0.7}, "best")[0].bound == 0.7  # as it was once recorded
    switches = Gate("switches", "max", 30, "--max-switches")
    for values, lacking in (({}, "mAP"), ({"reid/mAP": 0.7}, "switches")):
        with pytest.raises(PromotionError, match=f"--than best: {lacking} was not measured"):
            not_worse([switches], values, "best")
