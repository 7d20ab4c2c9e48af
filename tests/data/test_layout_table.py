"""A table says who is on which image; what is wrong with it is said with the line's number."""

from typing import Any

import pytest

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import split
from deepsort_reid.data.samples import JUNK, NO_CAMERA, Crop, Dataset
from tests.support.datasets import contents, pack, read_files, split_config, written

HEAD = "path,identity,camera,part,frame,note\n"


def opened(table: str, name: str = "labels.csv", **files: str) -> Dataset:
    images = {f"img/{i}.jpg": "" for i in range(8)}
    source: dict[str, Any] = {"table": name, "layout": "table"}
    return read_files({name: table, **images, **files}, **source)


def refusal(table: str, name: str = "labels.csv") -> str:
    with pytest.raises(DatasetError) as caught:
        opened(table, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_column() -> None:
    dataset = opened(
        HEAD
        + "img/0.jpg,amy,north,train,3,x\nimg/1.jpg,bob,south,query,5,\n"
        + 'img/2.jpg,"o\'neil, c",south,gallery,6,y\nimg/3.jpg,amy,north,ignore,7,\n'
    )
    assert [(s.name, s.identity, s.pid, s.camid, s.role, s.frame) for s in dataset.samples] == [
        ("img/0.jpg", "amy", 1, 1, "train", 3),
        ("img/1.jpg", "bob", 2, 2, "query", 5),
        ("img/2.jpg", "o'neil, c", 3, 2, "gallery", 6),
    ]
    assert dataset.columns == ("frame", "note")
    assert [s.extra for s in dataset.samples] == [("3", "x"), ("5", ""), ("6", "y")]
    assert dataset.understood["left_out"] == {
        "images that the table does not list": 4, "images of part 'ignore'": 1
    }  # fmt: skip
    assert not dataset.in_time


def test_two_columns_suffice_and_tabs_will_do() -> None:
    dataset = opened("\ufeffidentity\tpath\r\namy\timg/0.jpg\r\n\r\nbob\timg/1.jpg\r\n", "t.tsv")
    assert [(s.identity, s.camid, s.role) for s in dataset.samples] == [
        ("amy", NO_CAMERA, "any"), ("bob", NO_CAMERA, "any")
    ]  # fmt: skip


def test_boxes_are_crops_of_larger_images() -> None:
    dataset = opened(
        'path,identity,box\nimg/0.jpg,amy,"1 2 30 40"\nimg/0.jpg,bob,"[5.5, 6, 7, 8]"\n'
        "img/1.jpg,amy,\n"
    )
    assert [s.crop for s in dataset.samples] == [
        Crop("img/0.jpg", 0, (1, 2, 30, 40)),
        Crop("img/0.jpg", 0, (5.5, 6, 7, 8)),
        None,
    ]
    corners = opened("path,identity,left,top,width,height\nimg/0.jpg,amy,1,2,30,40\n")
    assert corners.samples[0].crop == Crop("img/0.jpg", 0, (1, 2, 30, 40))


def test_frames_without_cameras_are_tracks_in_time() -> None:
    rows = [f"img/{k}.jpg,{'ab'[k % 2]},{k}" for k in range(8)]
    assert opened("path,identity,frame\n" + "\n".join(rows)).in_time


def test_paths_count_from_the_table_or_from_the_archive() -> None:
    files = {"x/t.csv": "path,identity\na.jpg,amy\n./b.jpg,bob\n", "x/a.jpg": "", "x/b.jpg": ""}
    for table in ("x/t.csv", "t.csv"):
        assert [s.name for s in read_files(files, table=table).samples] == ["x/a.jpg", "x/b.jpg"]
    windows = {"x/a.jpg": "", "t.csv": "path,identity\nx\\a.jpg,amy\n"}
    assert read_files(windows, table="t.csv").samples[0].name == "x/a.jpg"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "line 1: no column 'path' among ; expected path, identity"),
        ("path,id\n", "line 1: column 'id' seems to be 'identity'; rename it to that"),
        ("path,identity,Camera\n", "line 1: column 'Camera' seems to be 'camera'"),
        ("path,identity,cam\n", "line 1: column 'cam' seems to be 'camera'"),
        ("path,identity,split\n", "line 1: column 'split' seems to be 'part'"),
        ("path,identity,bbox\n", "line 1: column 'bbox' seems to be 'box'"),
        ("path,name2\n", "line 1: no column 'identity' among path, name2; expected path"),
        ("path,identity,path\n", "line 1: two columns 'path'"),
        ("path,identity,pid\n", "line 1: column 'pid' bears a name that the index"),
        ("path,identity,left\n", "line 1: no column 'top'"),
        ("path,identity\n", "lists no image"),
        ("path,identity\nimg/0.jpg\n", "line 2: 1 values; expected 2: path, identity"),
        ("path,identity\nimg/0.jpg,\n", "line 2: no identity"),
        ("path,identity\n\nimg/9.jpg,a\n", "line 3: 'img/9.jpg' is not in the source; did you"),
        ("path,identity\nimg/0.jpg,a\nimg/0.jpg,b\n", "line 3: 'img/0.jpg' stands in 'labels.csv'"),
        (HEAD + "img/0.jpg,a,1,trian,1,\n", "line 2: part 'trian'; expected train, val, query"),
        (HEAD + "img/0.jpg,a,1,,1,\n", "line 2: part ''"),
        (HEAD + "img/0.jpg,a,1,train,1.5,\n", "line 2: frame '1.5'; expected a whole number"),
        (HEAD + "img/0.jpg,a,1,train,1,\nimg/1.jpg,a,,train,1,\n", "line 3: no camera, while 1"),
        (HEAD + "img/0.jpg,a,1,ignore,1,\n", "lists no image that is not to be ignored"),
        ("path,identity,box\nimg/0.jpg,a,1 2 3\n", "line 2: box '1 2 3'; expected left, top"),
        ("path,identity,box\nimg/0.jpg,a,1 2 0 3\n", "line 2: box '1 2 0 3' has no area"),
        ("path,identity,box\nimg/0.jpg,a,1 2 nan 3\n", "line 2: box '1 2 nan 3'; expected pixels"),
        ('path,identity\n"img/0.jpg,a\n', "no CSV (unexpected end of data)"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(table: str, message: str) -> None:
    assert message in refusal(table)


def test_a_table_that_is_not_there() -> None:
    with pytest.raises(DatasetError, match=r"labels.csv: the source holds 'l.csv'; name one"):
        read_files({"a/1.jpg": "", "l.csv": ""}, table="labels.csv")
    with pytest.raises(DatasetError, match=r"layout: table needs dataset.table"):
        read_files({"a/1.jpg": ""}, "table")
    with pytest.raises(DatasetError, match="holds 2 of them"):
        read_files({"a/1.jpg": "", "b/1.jpg": "", "a/l.csv": "", "b/l.csv": ""}, table="l.csv")


def test_further_columns_stand_in_the_index(tmp_path: Any) -> None:
    rows = [f"img/{k}.jpg,{'abcd'[k % 4]},{k % 2},v{k}" for k in range(8)]
    dataset = opened("path,identity,camera,note\n" + "\n".join(rows))
    parts = split.assign_all([dataset], split_config())
    pack(tmp_path, dataset, contents(dataset))
    index = written(tmp_path)["train.csv"].decode().splitlines()
    assert index[0] == "pid,camid,identity,name,note"
    assert index[1].endswith(f",{parts['train'][0].name},v{parts['train'][0].name[4]}")


# What spreadsheets and programs make of a table


ROWS = [f"img/{k}.jpg,{'ab'[k // 4]}" for k in range(8)]


def test_semicolons_and_accents_written_in_two_ways() -> None:
    blanks = opened('path, identity\nimg/0.jpg, "amy"\nimg/1.jpg, amy\n')
    assert {s.identity for s in blanks.samples} == {"amy"}
    assert len(opened("path;identity\nimg/0.jpg;amy\nimg/1.jpg;bob, jr\n").samples) == 2
    files = {"caf\u00e9.jpg": "", "t.csv": "path,identity\ncafe\u0301.jpg,amy\n"}
    assert read_files(files, table="./t.csv").samples[0].name == "caf\u00e9.jpg"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "path,identity\nimg/0.jpg,J\u00fcrgen\n".encode("latin-1"),
            "line 2: no text in UTF-8; save",
        ),
        ("path,identity\nimg/0.jpg,amy\n".encode("utf-16"), "line 1: no text in UTF-8"),
        ("path,identity\nimg/0.jpg,amy\n".encode("utf-16-le"), "or is in UTF-16"),
    ],
)
def test_other_encodings_are_named(data: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_files({"img/0.jpg": "", "t.csv": data}, table="t.csv")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,identity\nimg/0.jpg,NaN\n", "line 2: identity 'NaN', as programs write a missing"),
        ("path,identity\nimg/0.jpg,0002\nimg/1.jpg,2\n", "'labels.csv': identities '0002' and '2'"),
        ("path,identity\nimg/0.jpg,7.0\nimg/1.jpg,7\n", "'labels.csv': identities '7' and '7.0'"),
        ("path,identity,camera\nimg/0.jpg,a,C1\nimg/1.jpg,b,c1\n", "cameras 'C1' and 'c1' differ"),
        ("path,identity,camera\nimg/0.jpg,a,-1\nimg/1.jpg,b,1\n", "line 2: no camera, while 1"),
        ("path,identity,x1,y1,x2,y2\nimg/0.jpg,a,1,2,3,4\n", "x1, y1, x2, y2 seem to be a box"),
        ("path,identity,bbox_x,bbox_y,bbox_w,bbox_h\nimg/0.jpg,a,1,2,3,4\n", "seem to be a box"),
    ],
)
def test_what_would_be_misread_is_refused(table: str, message: str) -> None:
    assert message in refusal(table)


def parts(*names: str) -> str:
    lines = [f"{row},{part}" for row, part in zip(ROWS, names, strict=True)]
    return "path,identity,part\n" + "\n".join(lines)


def test_parts_of_a_table_fit_together_as_folders_do() -> None:
    closed = opened(parts(*["train", "train", "test", "test"] * 2))
    assert {s.role for s in closed.samples} == {"train", "val"}  # the same identities
    assert closed.understood["notes"]
    queries = opened(parts(*["train"] * 4, "query", *["test"] * 3))
    assert [s.role for s in queries.samples[4:]] == ["query", *["gallery"] * 3]
    assert "'a' is in train and in query" in refusal(
        parts("train", "train", "query", "gallery", *["gallery"] * 4)
    )
    assert "queries, but no gallery" in refusal(parts(*["train"] * 4, *["query"] * 4))


def test_identity_minus_one_is_junk() -> None:
    table = parts(*["train"] * 4, "query", *["gallery"] * 3).replace("7.jpg,b", "7.jpg,-1")
    assert [s.pid for s in opened(table).samples][-1] == JUNK
