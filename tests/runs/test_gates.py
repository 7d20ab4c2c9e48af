"""Gates: how they are written, and what they say of a run that does not keep them."""

import pytest

from deepsort_reid.core.errors import ConfigError
from deepsort_reid.runs.gates import Gate, bound_of, not_worse, parse_gate

VALUES = {"reid/mAP": 0.651, "track/id_switches": 19.0, "reid/rank-1": float("nan")}


@pytest.mark.parametrize(
    ("text", "side", "metric", "bound"),
    [
        ("rank-1=85%", "min", "rank-1", 0.85),
        ("HOTA=0.5", "min", "HOTA", 0.5),
        ("switches=20", "max", "switches", 20),
        ("map=100%", "max", "mAP", 1),
        ("export/onnx_cosine=.99", "min", "export/onnx_cosine", 0.99),
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
        ("switches=-1", "--min switches -1: expected a number, such as 20"),
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
