"""`deepsort-reid watch`: footage of many kinds, the answer, its exit status, and its run."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from deepsort_reid.cli import watch as cli
from deepsort_reid.cli.start import main
from deepsort_reid.cli.video import outputs
from deepsort_reid.core import files
from deepsort_reid.core.errors import DatasetError, PackedError, SourceError, StoreError
from deepsort_reid.core.stage import set_up_log
from deepsort_reid.data.packed import PARTS, read_summary, write_images, write_index, write_summary
from deepsort_reid.model import checkpoint
from deepsort_reid.monitoring.appearance import NAMES, appearance
from deepsort_reid.monitoring.footage import CROPS, chosen_tracks, of_split
from deepsort_reid.monitoring.video import of_video
from deepsort_reid.monitoring.watch import check_split
from deepsort_reid.runs.folder import RunFolder, all_folders
from tests.support import stages
from tests.support.exports import trained
from tests.support.stores import forget_mlflow

SIZE = (32, 16)
PEOPLE = 24


def crop(person: int, number: int, light: float = 1.0) -> np.ndarray:
    """Somebody in a coat of a colour of their own, seen a little differently each time."""
    rng = np.random.default_rng([person, number])
    coat = np.random.default_rng(person).uniform(60, 200, 3)
    picture = coat + rng.normal(0, 8, (*SIZE, 3))
    picture[:8] = 150 + rng.normal(0, 8, (8, SIZE[1], 3))
    return (light * picture).clip(0, 255).astype(np.uint8)


def write_people(folder: Path, first: int, *, light: float = 1.0, count: int = PEOPLE) -> Path:
    for person in range(first, first + count):
        (folder / f"{person:03}").mkdir(parents=True)
        for number in range(3):
            path = folder / f"{person:03}" / f"{number}.png"
            Image.fromarray(crop(person, number, light)).save(path)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a run: parameters, a split with held-out people, and a network of chance."""
    home = tmp_path_factory.mktemp("watch")
    stages.write_params(home, {})
    split = home / "data" / "split"
    split.mkdir(parents=True)
    for part in PARTS:
        each = 4 if part == "gallery" else 2
        rows = [
            (pid, pid % 2 + 1, f"{pid:03}", f"{pid:03}_{number}.png")
            for pid in range(1, PEOPLE + 1)
            for number in range(each)
        ]
        write_images(split / f"{part}.npy", len(rows),
                     (crop(pid, n) for n, (pid, *_) in enumerate(rows)), SIZE)  # fmt: skip
        write_index(split / f"{part}.csv", rows)
    summary = write_summary(split, "folders", {}, tuning=False)
    made = trained("osnet_x0_25", SIZE)
    about = checkpoint.Description(**{**vars(made.about), "data_digest": summary.digest})
    checkpoint.save(home / "models" / "model.pth", made.net.state_dict(), about)
    return home


@pytest.fixture(autouse=True)
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    forget_mlflow(monkeypatch)
    monkeypatch.chdir(home)
    monkeypatch.setenv("DVC_ROOT", str(home))
    monkeypatch.setattr(cli.runs, "store_address", lambda: None)  # the folder is what counts here
    yield home
    set_up_log(is_first=True)
    logging.getLogger("deepsort_reid").propagate = True


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["watch", *arguments])
    return int(ended.value.code or 0)


def test_no_alarm_alarm_and_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(str(write_people(tmp_path / "same", 100))) == 0
    assert capsys.readouterr().out.startswith("no alarm: new footage looks like training's: p = ")
    dark = write_people(tmp_path / "dark", 200, light=0.4)
    assert command(str(dark)) == cli.ALARM == 3
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("new footage differs from training's: p = 0.000")
    assert "(alarm at 0.01); largest change: " in first
    assert "brightness" in "\n".join([first, *rest])
    assert command(str(dark), "--against", str(write_people(tmp_path / "d", 300, light=0.4))) == 0
    assert "no alarm: new footage looks like that of" in capsys.readouterr().out
    assert command(str(tmp_path / "nothing")) == 1
    assert command(str(dark), "--json", "--camera", "1") == 3
    told = json.loads(capsys.readouterr().out)
    assert told["alarm"]
    assert told["tracks"] == {"old": PEOPLE // 2, "new": PEOPLE}


def test_pieces_of_tracks_are_joined_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_people(tmp_path / "whole", 100)
    for person in sorted(whole.iterdir()):
        piece = person.with_name(f"{person.name}b")  # the tracker has found somebody new
        piece.mkdir()
        for number in (3, 4):
            Image.fromarray(crop(int(person.name), number)).save(piece / f"{number}.png")
    assert command(str(whole), "--json") == cli.ALARM
    told = json.loads(capsys.readouterr().out)
    assert told["tracks"]["new"] == 2 * PEOPLE
    assert told["people_joined"] == {"old": 0, "new": 0}
    assert command(str(whole), "--pieces") == 0
    told = capsys.readouterr().out
    assert told.startswith("no alarm: ")
    other = write_people(tmp_path / "other", 300)
    assert command(str(other), "--against", str(whole), "--json") == cli.ALARM
    capsys.readouterr()
    assert command(str(other), "--against", str(whole), "--json", "--pieces") == 0
    assert json.loads(capsys.readouterr().out)["people_joined"]["old"] > PEOPLE // 2
    assert "  joined to tracks that they look like pieces of: " in told


def test_looks_are_points_of_one_run(here: Path, tmp_path: Path) -> None:
    footage = write_people(tmp_path / "same", 100)
    for _ in range(2):
        cli.watch(footage, name="gate-2")
    (run,) = [one for one in all_folders() if one.key.endswith("gate-2")]
    points = [point for point in run.metrics.read() if point.name == "watch/p_value"]
    assert len(run.artifacts()) == len(points) == 2
    run.path.rename(tmp_path / "elsewhere")  # another machine has no folder of the run
    cli.watch(footage, name="gate-2")
    (last,) = [p for p in RunFolder(run.key).metrics.read() if p.name == "watch/p_value"]
    first, second, third = (point.step or 0 for point in [*points, last])
    assert 1.7e12 < first < second < third
    tags = run.read("tags.json")
    assert tags["watch.alarm"] == "false"
    assert tags[cli.WATCHED] == files.md5(here / "models" / "model.pth")
    assert "no alarm" in tags["mlflow.note.content"]


def test_the_run_of_the_training_is_named(here: Path) -> None:
    files.write_json(here / "reports" / "run.json", {"key": "abc", "run_id": "0" * 32})
    training = RunFolder("abc")
    training.merge("run.json", {"name": "resnet"})
    assert cli.tags_of_training("md5")["training_run"] == "resnet"
    training.merge("tags.json", {"checkpoint_md5": "another"})
    assert cli.tags_of_training("md5") == {cli.WATCHED: "md5"}


def test_relative_paths_with_a_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_people(tmp_path / "same", 100)
    write_people(tmp_path / "week", 300)
    (tmp_path / "run").symlink_to(home)
    monkeypatch.chdir(tmp_path)
    given = ("same", "--folder", "run", "--name", "relative")
    assert command(*given) == 0
    assert command(*given, "--weights", "run/models/model.pth", "--against", "week") == 0
    assert len(
        RunFolder(cli.key_of(files.md5(Path("run/models/model.pth")), "relative")).artifacts()
    )


def test_a_name_is_checked_before_the_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "look", lambda *_, **__: pytest.fail("it has looked"))
    footage = str(write_people(tmp_path / "same", 100, count=1))
    for name in ("a" * 78, "a" * 90, "", "a/b"):
        assert command(footage, "--name", name) == 1
        assert "expected 1 to 77 letters" in capsys.readouterr().err
    assert cli.key_of("0" * 32, "a" * cli.LONGEST_NAME)


def test_an_alarm_is_told_where_it_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = write_people(tmp_path / "dark", 200, light=0.4)
    for error in (
        StoreError("run watch is recorded by another process"),
        PermissionError(13, "no"),
    ):
        monkeypatch.setattr(cli.runs, "open_run", Mock(side_effect=error))
        assert command(str(dark)) == 3
        told = capsys.readouterr()
        assert told.out.startswith("new footage differs from training's")
        assert told.out.endswith("  not recorded\n")
        assert f"warning: this look is not recorded: {error}" in told.err


@pytest.mark.parametrize("weight", [np.nan, 0.0])
def test_a_broken_network(
    weight: float, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, about = checkpoint.load(home / "models" / "model.pth")
    for parameter in net.parameters():
        parameter.data *= weight
    broken = tmp_path / "model.pth"
    checkpoint.save(broken, net.state_dict(), about)
    status = command(str(write_people(tmp_path / "same", 100)), "--weights", str(broken))
    told = capsys.readouterr()
    if np.isnan(weight):
        assert status == 1
        assert "embeds a crop to numbers that are not finite" in told.err
    else:
        assert status == 0  # all embeddings coincide
        assert "no alarm" in told.out


def test_one_track_of_each_person_and_few_crops() -> None:
    tracks = chosen_tracks([7] * 9 + [8], [1] * 6 + [2] * 3 + [1])
    assert {key: len(found) for key, found in tracks.items()} == {
        (7, 1): CROPS, (7, 2): 3, (8, 1): 1
    }  # fmt: skip
    assert tracks[7, 1] == [0, 2, 3, 5]


def test_the_reference_is_held_out(here: Path) -> None:
    found = of_split(Path("data/split"))
    assert (found.count, len(found.crops)) == (PEOPLE, CROPS * PEOPLE)
    assert not found.needs_draws
    other = here / "other"
    other.mkdir(exist_ok=True)
    files.write_json(other / "summary.json", files.read_json(Path("data/split/summary.json")))
    check_split(Path("models/model.pth"), other)
    for part in PARTS:
        for suffix in ("npy", "csv"):
            (other / f"{part}.{suffix}").write_bytes(b"other")
    write_summary(other, "folders", {}, tuning=False)
    assert read_summary(other).digest != read_summary(Path("data/split")).digest
    with pytest.raises(PackedError, match="was not trained on"):
        check_split(Path("models/model.pth"), other)


def test_what_cannot_be_compared_is_one_line(tmp_path: Path) -> None:
    few = write_people(tmp_path / "few", 100, count=4)
    with pytest.raises(DatasetError, match="4 people or tracks; expected at least 5"):
        cli.watch(few)
    video = tmp_path / "street.mp4"
    video.write_bytes(b"")
    with pytest.raises(SourceError, match=r"street.tracks.txt: no such file; expected") as error:
        cli.watch(video)
    # The command that the message proposes writes the very file that is missing.
    output = Path(str(error.value).partition(" --output ")[2].partition("`")[0])
    missing = Path(str(error.value).partition(": no such file")[0])
    assert outputs(video, output, overwrite=False).table == missing
    table = tmp_path / "det.txt"
    table.write_text("1,-1,1,1,8,20,0.9\n")
    with pytest.raises(DatasetError, match="no box says whose it is"):
        of_video(video, table, SIZE)


def test_too_little_footage_has_a_status_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write_people(tmp_path / "few", 100, count=4)
    assert command(str(few)) == cli.TOO_LITTLE == 4
    told = capsys.readouterr()
    assert told.err.splitlines()[-1].startswith("too little footage to say: ")
    assert "4 people or tracks; expected at least 5" in told.err
    assert not told.out
    video, table = tmp_path / "street.mp4", tmp_path / "street.tracks.txt"
    video.write_bytes(b"")
    table.write_text("")
    assert command(str(video)) == 4
    assert "street.tracks.txt, an empty table of tracks: 0 people" in capsys.readouterr().err
    capsys.readouterr()
    same = str(write_people(tmp_path / "same", 200))
    assert command(same, "--against", str(few)) == 1
    assert "error: " in capsys.readouterr().err


def test_the_numbers_of_crops() -> None:
    grey = np.full((1, *SIZE, 3), 51, np.uint8)
    red = grey.copy()
    red[..., 0] = 153
    (first, second) = appearance(np.concatenate([grey, red]))
    assert dict(zip(NAMES, first, strict=True)) == pytest.approx(
        {"brightness": 0.2, "contrast": 0, "warmth": 0, "colour": 0, "sharpness": 0}, abs=1e-6
    )
    assert second[NAMES.index("warmth")] == pytest.approx(0.4)
    assert second[NAMES.index("colour")] == pytest.approx(0.4)
