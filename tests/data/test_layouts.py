"""File names become identities, cameras and roles; what does not fit is named."""

from typing import get_args

import pytest

from deepsort_reid.core.dataset_config import DatasetConfig
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import split
from deepsort_reid.data.layouts import registry
from deepsort_reid.data.layouts.cameras import read_camera
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.registry import LAYOUTS, Layout
from deepsort_reid.data.samples import NO_CAMERA, SEQUENCE, Sample, read_moment, read_moments
from tests.support.datasets import read_dataset, split_config

MARKET = [
    "Market/bounding_box_train/0002_c1s1_000451_03.jpg",
    "Market/bounding_box_train/Thumbs.db",
    "Market/bounding_box_test/-1_c3s2_000001_00.jpg",
    "Market/bounding_box_test/0000_c2s1_000010_02.jpg",
    "Market/bounding_box_test/1501_c6s4_001877_02.jpg.jpg",
    "Market/query/1501_c5s3_000001_00.jpg",
    "Market/gt_bbox/0001_c1s1_001051_00.jpg",
    "Market/readme.txt",
]


def test_market1501_names() -> None:
    dataset = read_dataset(reversed(MARKET))
    assert dataset.layout == "market1501"
    found = {(s.role, s.identity, s.pid, s.camid) for s in dataset.samples}
    assert found == {
        ("train", "0002", 2, 1),
        ("gallery", "-1", -1, 3),
        ("gallery", "0000", 0, 2),
        ("gallery", "1501", 1501, 6),
        ("query", "1501", 1501, 5),
    }
    assert [s.name for s in dataset.samples] == sorted(s.name for s in dataset.samples)


def test_the_parameter_offers_the_layouts_of_the_table() -> None:
    offered = get_args(DatasetConfig.model_fields["layout"].annotation)
    assert sorted(offered) == sorted(["auto", *(layout.name for layout in LAYOUTS)])


def test_a_layout_is_a_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The split goes by what the samples say, not by the layout's name."""
    names = [f"{role}/car{n}_{camera}.jpg" for role, cars in
             (("train", range(1, 5)), ("query", [7]), ("gallery", [7, 8]))
             for n in cars for camera in (1, 2)]  # fmt: skip

    def read(files: Files) -> Reading:
        samples = [
            Sample(n, n[-7], int(n[-7]), int(n[-5]), n.partition("/")[0])  # type: ignore[arg-type]
            for n in files.images
        ]
        return Reading(samples, "file name", "file name")

    cars = Layout("cars", lambda files: all("car" in name for name in files.images), read)
    monkeypatch.setattr(registry, "LAYOUTS", (cars, *LAYOUTS))
    dataset = read_dataset(names)
    assert (dataset.layout, dataset.has_roles, dataset.in_time) == ("cars", True, False)
    parts = split.assign_all([dataset], split_config())
    assert [s.name for s in parts["query"]] == ["query/car7_1.jpg", "query/car7_2.jpg"]
    assert len(parts["gallery"]) == 4
    assert read_dataset(["a/c1_1.png"]).layout == "folders"
    assert read_dataset(["a/1.png", "b/1.png"], "folders").layout == "folders"


def test_folders_become_identities_in_the_order_of_their_names() -> None:
    names = ["crops/zoe/c2_1.png", "crops/adam/c1_5.JPG", "crops/adam/c3s2_6.jpg", "crops/.x/1.jpg"]
    dataset = read_dataset(names)
    assert dataset.layout == "folders"
    assert [(s.identity, s.pid, s.camid, s.role) for s in dataset.samples] == [
        ("adam", 1, 1, "any"),
        ("adam", 1, 3, "any"),
        ("zoe", 2, 2, "any"),
    ]


@pytest.mark.parametrize(
    ("name", "camid"),
    [
        ("a/c3_0007.png", 3),
        ("a/walk_c3s1_12.jpg", 3),
        ("a/0002_c1s1_000451_03.jpg", 1),
        ("a/Cam12-5.jpg", 12),
        ("a/abc3.jpg", NO_CAMERA),
        ("a/c3d.jpg", NO_CAMERA),
        ("c3/1.jpg", NO_CAMERA),
    ],
)
def test_the_camera_stands_apart_in_the_file_name(name: str, camid: int) -> None:
    assert read_camera(name) == camid


@pytest.mark.parametrize(
    ("names", "layout", "message"),
    [
        ([], "auto", "no images in the dataset"),
        (["a/b.txt", "__MACOSX/a/b.jpg", "a/.b.jpg"], "auto", "no images in the dataset"),
        (MARKET[:4], "auto", "no images in 'Market/query'"),
        ([n for n in MARKET if "test" not in n], "auto", "no images in 'Market/bounding_box_test'"),
        (["a/1.jpg"], "market1501", "no images in 'bounding_box_train'"),
        ([*MARKET, "Market/query/who.jpg"], "auto", "'Market/query/who.jpg' tells no identity"),
        (["a/1.jpg", "2.jpg"], "auto", "'2.jpg' lies in no identity's folder"),
        (["a/c1_1.jpg", "a/2.jpg"], "auto", "'a/2.jpg' tells no camera, while 1 of 2 names do"),
    ],
)
def test_a_dataset_in_no_known_layout(names: list[str], layout: str, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read_dataset(names, layout)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("query/0002_c1s1_000451_03.jpg", SEQUENCE + 451),
        ("query/-1_c3s12_000001_00.jpg.jpg", 12 * SEQUENCE + 1),
        ("a/walk_cam3s2_12.jpg", 2 * SEQUENCE + 12),
        ("a/c1_f0046302.jpg", 46302),
        ("street/img1/000012.jpg#7", 12),
        ("a/c3_0007.png", None),
        ("a/c3s1.png", None),
        ("a/abc3s1_12.jpg", None),
        ("a/c3s1_12b.jpg", None),
        ("a/c3s1_1234567890.jpg", None),
        ("c1s1_12/a.jpg", None),
    ],
)
def test_the_frame_stands_behind_camera_and_sequence(name: str, moment: int | None) -> None:
    assert read_moment(name) == moment


def test_moments_are_known_for_all_or_for_none() -> None:
    names = ["c1s1_000451.jpg", "c2s1_000450.jpg"]
    assert read_moments(names) == [SEQUENCE + 451, SEQUENCE + 450]
    assert read_moments([*names, "c1_7.jpg"]) is None
    assert read_moments([]) == []
