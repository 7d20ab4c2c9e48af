"""What a comparison says: the answer with its uncertainty, the table, the file, the record."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepsort_reid.comparison import report, verdict
from deepsort_reid.comparison.measuring import BATCHES, speeds_of
from deepsort_reid.comparison.verdict import difference
from tests.support.comparisons import PIDS, comparison, precisions
from tests.support.exports import crops


def test_the_difference_is_paired_and_its_interval_rests_on_identities() -> None:
    """A gain of every query is certain, however much the queries themselves differ."""
    first = precisions(0.5)
    gain = difference(first + 0.02, first, PIDS)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.02, 0.02, 0.02))
    noise = np.random.default_rng(1).normal(0, 0.1, 30)[PIDS]  # one of all queries of an identity
    apart = difference(first + noise, first, PIDS)
    single = difference(first + noise, first, np.arange(len(PIDS)))
    assert apart.low is not None and apart.high is not None  # noqa: PT018
    assert single.low is not None and single.high is not None  # noqa: PT018
    assert 1.5 < (apart.high - apart.low) / (single.high - single.low) < 2.5  # 2 = sqrt(4)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * noise.std() / 30**0.5, rel=0.15)
    turned = difference(first, first + noise, PIDS)
    assert turned.value == pytest.approx(-apart.value)
    alone = difference(first, first, np.ones(len(PIDS)))
    assert (alone.value, alone.low, alone.high) == (0, None, None)


def test_the_answer_in_plain_english() -> None:
    found = comparison({"mine": 0.6, "weak": 0.5, "same": 0.6, "strong": 0.7},
                       [0.55, 0.5, 0.6, 0.65, 0.45])  # fmt: skip
    text = verdict.verdict(found)
    assert "mine is better than weak: mAP 60.8% against 50.8%, +10.0 points (95 %" in text
    assert "119 queries of 30 identities" in text.replace("\n    ", " ")
    assert "mine and same cannot be told apart:" in text
    assert "mine is worse than strong: mAP 60.8% against 70.8%, −10.0 points" in text
    assert "HOTA 55.0% against 50.0%, 10 identity switches against 11 (12 people, one" in (
        text.replace("\n    ", " ")
    )
    assert "mine is slower: 141 against 240 crops a second, 8 at a time." in text.replace(
        "\n    ", " "
    )
    assert all(len(line) <= verdict.WIDTH for line in text.splitlines())


def test_the_answer_says_where_the_tracker_contradicts_and_what_rests_on_too_little() -> None:
    text = verdict.verdict(comparison({"mine": 0.6, "b": 0.5}, [0.5, 0.6, 0.4], people=4))
    joined = text.replace("\n    ", " ")
    assert "In the tracker, however: HOTA 50.0% against 60.0%" in joined
    assert "(4 people, not meaningful, too few people: 4 (needs 10))" in joined
    found = comparison({"mine": 0.6, "b": 0.5})
    few = [
        replace(one, scores=replace(one.scores, ranking=replace(one.scores.ranking,
                                                                num_identities=3)))
        for one in found.networks
    ]  # fmt: skip
    text = verdict.verdict(replace(found, networks=few))
    assert "Whether mine is better than b cannot be told, too few identities: 3 (needs 20):" in (
        text.replace("\n    ", " ")
    )
    assert "In the tracker" not in text


def test_the_table_on_the_screen_is_narrow() -> None:
    found = comparison({"mine": 0.6, "a name that is a good deal too long": 0.5}, [0.55, 0.5, 0.4])
    lines = report.screen(found).splitlines()
    assert max(map(len, lines)) <= 100
    head, mine, other, without = lines[1:5]
    assert head.split() == ["input", "MB", "mAP", "rank-1", "threshold", "1", "8", "32", "HOTA",
                            "switches"]  # fmt: skip
    assert mine.split() == ["mine", "128×64", "0.1", "60.8%", "60.0%", "-", "50", "141", "283",
                            "55.0%", "10"]  # fmt: skip
    assert other.split()[-2:] == ["50.0%", "11"]
    assert "…" in other
    assert without.split() == ["no", "appearance", "40.0%", "12"]
    assert len({len(line) for line in (head, mine, other, without)}) == 1
    assert "not meaningful, too few" in report.screen(found)  # no pairs for a threshold
    assert "HOTA" not in report.screen(comparison({"mine": 0.6}))


def test_the_file_has_all_of_it(tmp_path: Path) -> None:
    found = comparison({"mine": 0.6, "b": 0.5}, [0.55, 0.5, 0.4])
    made = report.write(tmp_path / "new" / "folder", found)
    assert [path.name for path in made] == ["compare.csv", "compare.png"]
    with made[0].open(newline="") as file:
        mine, other, without = csv.DictReader(file)
    assert (mine["network"], other["network"], without["network"]) == ("mine", "b", "no appearance")
    assert float(mine["mAP"]) - float(other["mAP"]) == pytest.approx(
        float(other["mAP_behind_first"])
    )
    assert float(other["mAP_behind_first_low"]) > 0.05
    assert (other["image_height"], other["notes"], other["people"]) == ("128", "a note", "12")
    assert (without["hota"], without["id_switches"], without["mAP"]) == ("0.4", "12", "")
    with Image.open(made[1]) as picture:
        assert picture.width == 1200


def test_the_run_gets_a_section_for_each_network() -> None:
    measured, told = report.numbers_of_run(comparison({"mine": 0.6, "b": 0.5}, [0.55, 0.5, 0.4]))
    assert measured["b/hota"] == 0.5
    assert measured["no appearance/hota"] == 0.4
    assert measured["mine/crops_per_second_8"] > 0
    assert all(isinstance(value, int | float) for value in measured.values())
    assert told["b.notes"] == "a note"
    assert (told["compare.queries"], told["compare.people"]) == (119, 12)


def test_the_speed_is_that_of_crops_of_the_network_s_own_size() -> None:
    network = comparison({"a": 0.5}).networks[0].network
    sizes = set()

    def look(images: list[np.ndarray], *, order: str) -> np.ndarray:  # noqa: ARG001
        sizes.add((len(images), *images[0].shape))
        return np.ones((len(images), 2), np.float32)

    found = speeds_of(replace(network, embedder=look), crops(32))
    assert sizes == {(batch, 128, 64, 3) for batch in BATCHES}
    assert all(found[batch] > 0 for batch in BATCHES)
