"""The recommended threshold, where later stages read it."""

from pathlib import Path

import pytest

from deepsort_reid.core.errors import ReportError
from deepsort_reid.evaluation.threshold import read_threshold, read_too_few


@pytest.mark.parametrize(("text", "value"), [("0.25", 0.25), ("0", 0.0), ("2", 2.0)])
def test_it_is_read(tmp_path: Path, text: str, value: float) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(f'{{"mAP": 0.3, "max_cosine_distance": {text}}}')
    assert read_threshold(path) == value
    assert type(read_threshold(path)) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"max_cosine_distance": 2.1}', "its max_cosine_distance is 2.1"),
        ('{"max_cosine_distance": NaN}', "its max_cosine_distance is nan"),
        ('{"max_cosine_distance": true}', "its max_cosine_distance is True"),
        ('{"max_cosine_distance": "0.2"}', "its max_cosine_distance is 0.2"),
        ("[]", "its max_cosine_distance is None"),
        ("{", "cannot be read"),
    ],
)
def test_what_is_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(ReportError) as error:
        read_threshold(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert str(error.value).endswith("dvc repro")


def test_one_that_rests_on_too_little_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text('{"max_cosine_distance": 0.4, "too_few": {"ranking": "queries: 2"}}')
    assert read_threshold(path) == 0.4
    assert not caplog.records
    path.write_text('{"max_cosine_distance": 0.4, "too_few": {"threshold": "identities: 2"}}')
    assert read_threshold(path) == 0.4
    assert "threshold 0.400 is not meaningful: too few identities: 2" in caplog.text


def test_evaluate_recommends_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"mAP": 0.3}')
    with pytest.raises(ReportError, match="no pairs to find one by; hold out more people"):
        read_threshold(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"too_few": {"threshold": "identities: 2 (needs 20)"}}',
         {"threshold": "identities: 2 (needs 20)"}),
        ('{"too_few": {}}', {}),
        ('{"mAP": 0.3}', {}),  # of an earlier version
    ],
)  # fmt: skip
def test_what_it_rests_on_too_little_of(tmp_path: Path, text: str, found: dict[str, str]) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(text)
    assert read_too_few(path) == found


@pytest.mark.parametrize("text", ['{"too_few": "2"}', '{"too_few": {"threshold": 2}}', "[]"])
def test_a_damaged_account_of_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=r"its too_few is .*dvc repro"):
        read_too_few(path)


def test_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"metrics.json: cannot be read .*dvc repro"):
        read_threshold(tmp_path / "metrics.json")
