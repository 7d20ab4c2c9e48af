"""MOTChallenge's files: what they say, whoever wrote them, and which line does not fit."""

import time
from pathlib import Path

import pytest

from deepsort_reid.core.errors import SourceError
from deepsort_reid.data.layouts.video import mot
from deepsort_reid.data.layouts.videos import read_sequences
from deepsort_reid.data.video import tables
from deepsort_reid.data.video.annotation import Numbering, first_frame, placed
from deepsort_reid.data.video.mot_table import read_boxes
from deepsort_reid.data.video.sequence import Boxes
from tests.support.videos import zipped

FRAMES = {f"train/street/img1/{number:06}.jpg": b"" for number in range(1, 6)}
GT = "train/street/gt/gt.txt"


def table(text: str | bytes, *, truth: bool) -> Boxes:
    """The boxes of a table of a sequence of five frames, of unknown size."""
    data = text if isinstance(text, bytes) else text.encode()
    found = read_boxes(data, "gt.txt" if truth else "det.txt", truth=truth)
    start = first_frame([found], Numbering(1, 5, "img1"))
    return placed(found, start, None, unique=truth)[0]


def truth(text: str | bytes) -> Boxes:
    return table(text, truth=True)


def test_a_sequence_with_everything(tmp_path: Path) -> None:
    files = FRAMES | {
        GT: b"1,7,11,21,30,40,1,1,0.5\n",
        "train/street/det/det.txt": b"2,-1,11,21,30,40,12.5,-1,-1,-1\n",
        "train/street/seqinfo.ini": b"[Sequence]\r\nname=street\r\nframeRate=14\r\n",
        "train/readme.txt": b"",
    }
    (found,) = read_sequences(zipped(tmp_path / "a.zip", files))
    assert (found.name, found.frame_rate, found.images) == ("street", 14, tuple(FRAMES))
    assert found.truth is not None
    assert found.truth.ltwh.tolist() == [[10, 20, 30, 40]]  # from 0
    assert (found.truth.frames, found.truth.ids, found.truth.visibility) == ([1], [7], [0.5])
    assert found.detections is not None
    assert (found.detections.ids, found.detections.confidences) == ([-1], [12.5])


def test_sequences_come_by_name_wherever_they_are(tmp_path: Path) -> None:
    names = [f"{where}/img1/{n}.jpg" for where in ("b/z", "a", "c/d/k") for n in range(1, 12)]
    found = read_sequences(zipped(tmp_path / "a.zip", dict.fromkeys(names, b"")))
    assert [sequence.name for sequence in found] == ["a", "k", "z"]
    assert found[0].images == tuple(f"a/img1/{n}.jpg" for n in range(1, 12))  # 2 before 10
    assert (found[0].truth, found[0].detections, found[0].frame_rate) == (None, None, 25)


def test_a_sequence_without_a_folder_of_its_own(tmp_path: Path) -> None:
    files = {"img1/000001.PNG": b"", "gt/gt.txt": b"1,1,1,1,5,5,1,1,1", "gt/labels.txt": b"person"}
    (found,) = read_sequences(zipped(tmp_path / "a.zip", files))
    assert found.name == "sequence"
    assert found.truth is not None
    assert len(found.truth) == 1


@pytest.mark.parametrize(
    ("end", "classes", "visibility"),
    [
        ("1", 1, 1),
        ("1,3", 3, 1),
        ("1,3,0.25", 3, 0.25),
        ("1,-1,-1", 1, 1),
        ("1,-3.5,0.25,0", 1, 1),  # world coordinates, as MOT15 has them
        ("1,3,12.5,0", 1, 1),
        ("1,4,0,0", 4, 1),  # category, truncation and occlusion, as VisDrone has them
        ("1,9,1,1", 9, 0.75),
        ("1,1,0,2", 1, 0.25),
        ("1,-1,-1,-1", 1, 1),
    ],
)
def test_seven_to_ten_columns(end: str, classes: int, visibility: float) -> None:
    boxes = truth(f"1,1,1,1,5,5,{end}\n")
    assert (boxes.classes, boxes.visibility, boxes.confidences) == ([classes], [visibility], [1])


@pytest.mark.parametrize(
    "text",
    [
        b"2,3,1.5,2,5,6,1\n1,3,4,2,5,6e0,1\n",
        b"2,3,1.5,2,5,6,1\r\n1,3,4,2,5,6,1\r\n",
        b"\xef\xbb\xbf2, 3, 1.5, 2, 5, 6, 1\n1 ,3.0,4,+2,5,6.,1",
        b"2,3,1.5,2,5,6,1\n1,3,4,2,5,6,1\n\n \n\r\n",
    ],
    ids=["plain", "windows", "mark and spaces", "blank lines at the end"],
)
def test_how_a_file_is_written_does_not_matter(text: bytes) -> None:
    boxes = truth(text)
    assert boxes.frames.tolist() == [1, 2]  # in their order
    assert boxes.ltwh.tolist() == [[3, 1, 5, 6], [0.5, 1, 5, 6]]


def test_an_empty_file_has_no_boxes() -> None:
    for text in ("", "\n\n", "\ufeff"):
        boxes = truth(text)
        assert (len(boxes), boxes.ltwh.shape) == (0, (0, 4))


GOOD = "1,1,1,1,5,5,1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "1,2,3\n", "line 2: 3 columns between commas; expected 7, as in line 1"),
        ("1 2 3 4 5 6 7\n", "line 1: 1 column between commas; expected 7 to 10: frame, identity"),
        ("1,2,3,4,5,6,7,8,9,10,11\n", "line 1: 11 columns"),
        (GOOD + "1,2,3,4,5,6,1,\n", "line 2: 8 columns"),
        (GOOD + "\n" + GOOD, "line 2: an empty line"),
        (GOOD + "1,2,3,4,5,many,1\n", "line 2: column 6 is 'many'; expected a finite number"),
        (GOOD + "1,2,3,4,5,,1\n", "line 2: column 6 is ''"),
        (GOOD + "1,2,3,4,nan,6,1\n", "line 2: NaN or infinite"),
        (GOOD + "1,2,3,4,5,6,inf\n", "line 2: NaN or infinite"),
        (GOOD + "1,2,3,4,5,6,1e999\n", "line 2: NaN or infinite"),
        (GOOD + "1.5,2,3,4,5,6,1\n", "line 2: column 1 is the frame; expected a whole number"),
        (GOOD + "1,1e17,3,4,5,6,1\n", "line 2: column 2 is the identity; expected a whole"),
        (GOOD + "1,-2,3,4,5,6,1\n", "line 2: a negative identity"),
        (GOOD + "0,2,3,4,5,6,1\n5,2,3,4,5,6,1\n", "line 2: no such frame; img1 has 1 to 5"),
        (GOOD + "6,2,3,4,5,6,1\n", "line 2: no such frame; img1 has 1 to 5"),
        (GOOD + "1,2,3,4,0,6,1\n1,3,3,4,5,-6,1\n", "line 2: 2 of 3 boxes, this one first, have no"),
        ("1,1,1,1,5,5,1,3,0.25,7\n", "line 1: columns 8 to 10 are neither MOT15's world"),
        ("1,1,1,1,5,5,1,3,7,1\n", "line 1: columns 8 to 10 are neither MOT15's world"),
        ("1,1,1,1,5,5,1,0,0,0\n", "line 1: columns 8 to 10 are neither MOT15's world"),
        (GOOD + "1,2,3e9,4,5,6,1\n", "line 2: a box farther than 1000000 pixels away"),
        (GOOD + "2,1,1,1,5,5,1\n" + GOOD, "line 3: a second box of one identity in one frame"),
        ("1,1,1,1,5,5,1,1,1.5\n", "line 1: column 9 is the visible share"),
        ("1,1,1,1,5,5,1,1.5,1\n", "line 1: column 8 is the class; expected a whole number"),
        (b"\xff\xfe1\0,\0", "is no text in UTF-8"),
    ],
)
def test_a_line_that_does_not_fit_is_named(text: str | bytes, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        truth(text)
    assert f"gt.txt{',' if 'line' in message else ':'} {message}" in str(caught.value)


def test_detections_may_share_an_identity() -> None:
    text = b"1,-1,1,1,5,5,0.5\n1,-1,2,2,5,5,-3\n1,0,3,3,5,5,1\n1,0,4,4,5,5,1\n"
    assert len(table(text, truth=False)) == 4
    assert len(truth(GOOD.replace("1,1", "1,-1", 1) * 2)) == 2  # whose, nobody knows


def test_the_error_names_archive_file_and_line(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", FRAMES | {GT: b"9,1,1,1,5,5,1\n"})
    with pytest.raises(SourceError, match=r"a\.zip: train/street/gt/gt\.txt, line 1: no such fr"):
        read_sequences(archive)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.jpg", "a/b.txt"], "holds no sequence of a known format; expected <name>/img1/"),
        (["a/x/img1/1.jpg", "b/x/img1/1.jpg"], "'a/x' and 'b/x' bear the same name"),
        (["x/img1/frame.jpg"], "x/img1: 'frame.jpg' is no number"),
        (["x/img1/1.jpg", "x/img1/f2.jpg"], "x/img1: 'f2.jpg' is no number after what all names"),
        (["x/img1/1.jpg", "x/img1/001.jpg"], "x/img1: frame 1 is there twice"),
        (["x/img1/1.jpg", "x/img1/3.jpg"], "x/img1: 2 frames, but none with the number 2"),
        (["x/img1/7.jpg", "x/img1/9.jpg"], "none with the number 8; number them without gaps"),
        (["x/1.jpg", "x/gt.txt", "x/gt/gt.txt"], "'x/gt/gt.txt' and 'x/gt.txt' are both tables"),
        (["x/a/1.jpg", "x/b/1.jpg", "x/gt/gt.txt"], "the sequence 'x' has images in 2 folders"),
        (["y/img1/1.jpg", "x/gt/gt.txt"], "the sequence 'x' has no images"),
    ],
)
def test_folders_that_are_no_sequences(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_sequences(zipped(tmp_path / "a.zip", dict.fromkeys(names, b"")))
    assert message in str(caught.value)
    assert "a.zip: " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No section: 'Sequence'"),
        ("frameRate=25", "no section headers"),
        ("[Sequence]\nname=a", "No option 'framerate'"),
        ("[Sequence]\nframeRate=fast", "frameRate=fast must be a number"),
        ("[Sequence]\nframeRate=0", "frameRate=0 must be"),
        ("[Sequence]\nframeRate=nan", "frameRate=nan must be"),
        ("[Sequence]\nframeRate=1e999", "must be"),
        ("[Sequence]\nframeRate=%(x)s", "must be"),
        ("[Sequence]\nframeRate=1\nframeRate=2", "already exists"),
        ("x" * 5000, "more than 4096 bytes"),
    ],
)
def test_a_frame_rate_that_is_none(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=r"seqinfo\.ini: ") as caught:
        mot.read_info(text.encode(), "seqinfo.ini")
    assert message in str(caught.value)


def test_too_much_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_TEXTS", 30)
    archive = zipped(tmp_path / "a.zip", FRAMES | {GT: b"1,1,1,1,5,5,1\n2,1,1,1,5,5,1\n3,1,1"})
    with pytest.raises(SourceError, match=r"have more than 30.0 B; use fewer sequences"):
        read_sequences(archive)


@pytest.mark.parametrize(
    "text",
    [
        b"," * 20_000_000,
        b"\n" * 20_000_000 + b"1",
        b"1" * 20_000_000,
        b"1,1,1,1,5,5,1\n" + b"," * 20_000_000,
        b"1,1,1,1,5,5,1\n" + b" " * 20_000_000 + b"x",
        b"[Sequence]\na" + b" " * 4000 + b"b",
    ],
)
def test_no_file_takes_long(text: bytes) -> None:
    began = time.process_time()
    for read in (truth, lambda data: mot.read_info(data, "seqinfo.ini")):
        with pytest.raises(SourceError):
            read(text)
    assert time.process_time() - began < 2
