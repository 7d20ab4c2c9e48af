"""Footage of a video, and of the rendered world as it was and darker."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks.changed_footage import CHANGES, draw
from benchmarks.watch import Embedded, group_of, look

from deepsort_reid.core.config import load_params
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.monitoring.footage import CROPS
from deepsort_reid.monitoring.video import of_video
from tests.support.exports import trained
from tests.support.videos import SIZE, colour, frame_of, line, pixels

FRAMES, PEOPLE = 10, (1, 2, 3)


def write_video(path: Path) -> None:
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, SIZE[::-1])  # type: ignore[attr-defined]
    for frame in range(1, FRAMES + 1):
        film.write(np.ascontiguousarray(pixels(frame_of(1, PEOPLE, frame))[..., ::-1]))
    film.release()


def test_crops_of_a_video_are_those_in_the_boxes_of_its_tracks(tmp_path: Path) -> None:
    video, table = tmp_path / "street.mp4", tmp_path / "street.tracks.txt"
    write_video(video)
    end = "1,-1,-1,-1"
    table.write_text("".join(line(f, p, end=end) for f in range(1, FRAMES + 1) for p in PEOPLE))
    found = of_video(video, table, (20, 8))
    assert (found.count, len(found.crops)) == (len(PEOPLE), CROPS * len(PEOPLE))
    assert found.heights is not None
    assert set(found.heights.tolist()) == {20}
    assert found.is_tracked
    assert found.spans is not None
    assert found.spans.tolist() == [[1, FRAMES]] * len(PEOPLE)
    for person in PEOPLE:
        middle = found.crops[found.tracks == person - 1][:, 2:8, 3:5].mean(axis=(0, 1, 2))
        assert middle == pytest.approx(colour(1, person), abs=25)  # the codec loses some
    table.write_text(line(FRAMES + 5, 1, end=end))
    with pytest.raises(DatasetError, match=r"has boxes in frame 15, but .* ends at frame 10"):
        of_video(video, table, (20, 8))


def rendered(extractor: Extractor, change: str, first: int, people: int = 24) -> Embedded:
    """New people of the rendered world."""
    config = load_params(Path(__file__).parents[2] / "params.yaml").dataset.synthetic
    crops = [draw((config, change, extractor.image_size, first + person, image))
             for person in range(people) for image in range(CROPS)]  # fmt: skip
    return group_of(np.stack(crops), range(people), [-1] * people, [CROPS] * people, extractor)


@pytest.mark.slow
def test_darker_footage_alarms_and_other_people_do_not() -> None:
    made = trained("osnet_x0_25", (64, 32))
    about = made.about
    extractor = Extractor.from_network(
        made.net, image_size=(64, 32), mean=about.mean, std=about.std, device="cpu"
    )
    assert {"none", "dark"} <= CHANGES.keys()
    old = rendered(extractor, "none", 0)
    assert look(old, rendered(extractor, "none", 100))[0] > 0.05
    assert look(old, rendered(extractor, "dark", 200))[0] <= 0.01
