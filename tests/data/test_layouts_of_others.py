"""Miniatures of published datasets of vehicles and animals, with the traps of the real ones."""

import pytest

from deepsort_reid.core.dataset_config import SourceConfig
from deepsort_reid.data import split
from deepsort_reid.data.samples import NO_CAMERA
from tests.support.datasets import Content, images, read_files, refused, roles, split_config

# VeRi-776


def veri() -> dict[str, Content]:
    names = {
        "train": [f"{i:04}_c00{c}_00016450_{c}.jpg" for i in (1, 3, 4) for c in (1, 2)],
        "query": [f"{i:04}_c001_00030600_0.jpg" for i in (2, 5)],
        "test": [f"{i:04}_c00{c}_00030600_0.jpg" for i in (2, 5) for c in (1, 2)],
    }
    label = '<?xml version="1.0" encoding="gb2312"?>\n<!-- 红 -->\n'.encode("gb2312")
    extra = ("gt_index.txt", "jk_index.txt", "gt_image.txt", "jk_image.txt", "list_color.txt",
             "list_type.txt", "camera_Dist.txt", "camera_ID.txt", "test_track.txt",
             "test_track_VeRi.txt", "ReadMe.txt", "YongtaiPoint_Google.jpg")  # fmt: skip
    return (
        images(*(f"VeRi/image_{part}/{name}" for part in names for name in names[part]))
        | {f"VeRi/name_{part}.txt": "\r\n".join(names[part]) for part in names}
        | {f"VeRi/{part}_label.xml": label for part in ("train", "test")}
        | {f"VeRi/{name}": b"\xb0\xa1" for name in extra}
    )


def test_veri776_with_all_that_it_ships() -> None:
    dataset = read_files(veri())
    assert dataset.layout == "veri776"
    assert roles(dataset) == {"train": 6, "query": 2, "gallery": 4}
    assert {(s.pid, s.camid) for s in dataset.samples if s.role == "train"} == {
        (pid, camid) for pid in (1, 3, 4) for camid in (1, 2)
    }
    assert dataset.understood["left_out"]["index and label files, which the names repeat"] == 13
    parts = split.assign_all([dataset], split_config())
    assert (len(parts["query"]), len(parts["gallery"])) == (2, 4)


def test_veri776s_lists_are_checked() -> None:
    more = images("VeRi/image_train/0009_c001_00000001_0.jpg")
    left = read_files(veri() | more).understood["left_out"]
    assert left["images that no list names"] == 1
    twice = veri() | {"VeRi/name_query.txt": "0002_c001_00030600_0.jpg\n" * 2}
    assert "stands in 'VeRi/name_query.txt', line 1 already" in refused(twice)
    lost = veri()
    del lost["VeRi/image_test/0002_c002_00030600_0.jpg"]
    line = refused(lost)
    assert line.startswith("'VeRi/name_test.txt', line 2: there is no image 'VeRi/image_test/0002")
    without = {name: c for name, c in veri().items() if "/name_" not in name}
    assert roles(read_files(without)) == {"train": 6, "query": 2, "gallery": 4}


def test_veri776_is_refused_where_a_part_is_missing_or_shared() -> None:
    half = {name: c for name, c in veri().items() if "image_query" not in name}
    assert "no images in 'VeRi/image_query'" in refused(half)
    shared = {n: c for n, c in veri().items() if "/name_" not in n}
    shared |= images("VeRi/image_test/0001_c003_00000000_0.jpg")
    assert "identity '0001' is learned" in refused(shared)


# PKU VehicleID


def vehicleid(sizes: tuple[int, ...] = (1, 3)) -> dict[str, Content]:
    """Vehicle i has images 4i to 4i + 3."""

    def lines(vehicles: range) -> str:
        return "".join(f"{4 * i + k:07} {i}\n" for i in vehicles for k in range(4))

    split_of = "VehicleID_V1.0/train_test_split/"
    return (
        images(*(f"VehicleID_V1.0/image/{k:07}.jpg" for k in range(4 * 7)))
        | {f"{split_of}train_list.txt": lines(range(3))}
        | {f"{split_of}test_list_{size}.txt": lines(range(3, 3 + size)) for size in sizes}
        | {"VehicleID_V1.0/attribute/model_names.txt": "大众".encode("gb2312"),
           "VehicleID_V1.0/attribute/img2vid.txt": "0000000 0\n"}
    )  # fmt: skip


def test_vehicleids_gallery_is_one_image_of_each_vehicle() -> None:
    dataset = read_files(vehicleid(), subset="3")
    assert dataset.layout == "vehicleid"
    assert roles(dataset) == {"train": 12, "query": 9, "gallery": 3}
    assert {s.camid for s in dataset.samples} == {NO_CAMERA}
    assert {s.pid for s in dataset.samples if s.role == "gallery"} == {4, 5, 6}
    assert min(s.pid for s in dataset.samples) == 1  # vehicle 0 is a vehicle
    backwards = read_files(dict(reversed(vehicleid().items())), subset="3")
    assert dataset.samples == backwards.samples
    assert dataset.understood["left_out"] == {
        "images of no chosen list": 4, "lists that are not chosen": 1, "files of attributes": 2,
    }  # fmt: skip
    assert len(split.assign_all([dataset], split_config())["query"]) == 9


def test_vehicleids_test_list_is_a_choice() -> None:
    assert SourceConfig(name="a", source="b", subset=800).subset == "800"  # as DVC reads it
    assert "set dataset.subset to 1 or 3" in refused(vehicleid())
    assert "dataset.subset: 5: the layout vehicleid needs a test list; the source holds 1 or 3" in (
        refused(vehicleid(), subset="5")
    )
    assert roles(read_files(vehicleid((2,))))["gallery"] == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("test_list_1", "0000012 3\n9999999 3\n", "line 2: there is no image 'VehicleID"),
        ("test_list_1", "0000000 0\n", "stands in 'VehicleID_V1.0/train_"),
        ("test_list_1", "0000012 2\n", "identity '2' is learned"),
        ("test_list_1", "0000012\n", "expected 'image vehicle'"),
    ],
)  # fmt: skip
def test_a_wrong_line_of_vehicleids_lists_is_named(name: str, text: str, message: str) -> None:
    file = f"VehicleID_V1.0/train_test_split/{name}.txt"
    assert message in refused(vehicleid() | {file: text}, subset="1")


# VERI-Wild


def veriwild(train: str = "train_list.txt") -> dict[str, Content]:
    """Vehicle i has images 2i by camera 7 and 2i + 1 by camera 8; training numbers are anew."""
    split_of = "VERI-Wild/train_test_split/"
    path = {k: f"{k // 2:05}/{k:06}.jpg" for k in range(4, 20)}
    info = "id/image;Camera ID;Time;Model;Type;Color\n" + "".join(
        f"{path[k]};{7 + k % 2};2018-03-11 09:28:07;x;y;z\n" for k in path
    )
    lists = {
        train: "".join(f"{path[k]} {k // 2 - 2} {7 + k % 2}\n" for k in range(4, 10)),
        "test_3000_id_query.txt": f"{path[10]} 5 7\n{path[12]} 6 7\n",
        "test_3000_id.txt": f"{path[10]} 5 7\n{path[11]} 5 8\n{path[13]} 6 8\n",
        "test_5000_id_query.txt": f"{path[14]}\n",
        "test_5000_id.txt": f"{path[15]}\n",
    }
    return (
        images(*(f"VERI-Wild/images/{name}" for name in path.values()))
        | {f"{split_of}{name}": text for name, text in lists.items()}
        | {f"{split_of}vehicle_info.txt": (info + "\n").encode("latin-1") + b""}
    )


@pytest.mark.parametrize("train", ["train_list.txt", "train_list_start0.txt"])
def test_veriwilds_vehicle_is_the_folder(train: str) -> None:
    dataset = read_files(veriwild(train), subset="3000")
    assert dataset.layout == "veriwild"
    assert roles(dataset) == {"train": 6, "query": 2, "gallery": 2}
    assert {s.identity for s in dataset.samples} == {f"{i:05}" for i in range(2, 7)}
    assert {s.camid for s in dataset.samples} == {7, 8}
    assert dataset.understood["left_out"] == {
        "images of no chosen list": 6, "lists that are not chosen": 2
    }  # fmt: skip
    assert roles(read_files(veriwild(train), subset="5000"))["gallery"] == 1


def test_what_is_wrong_in_veriwild_is_named() -> None:
    files, split_of = veriwild(), "VERI-Wild/train_test_split/"
    assert "set dataset.subset to 3000 or 5000" in refused(files)
    wrong = {
        "test_3000_id.txt": ("00009/000099.jpg\n", "test_3000_id.txt', line 1: there is no image"),
        "vehicle_info.txt": ("00002/000004.jpg;7;x\n", "vehicle_info.txt' tells no camera of"),
        "train_list.txt": ("00005/000010.jpg\n", "_query.txt', line 1: 'VERI-Wild/images/00005"),
        "test_3000_id_query.txt": ("00005/000010.jpg\n" * 2, "_query.txt', line 2: 'VERI-Wild"),
    }
    for name, (text, message) in wrong.items():
        assert message in refused(files | {split_of + name: text}, subset="3000")
    for name in ("train_list.txt", "test_3000_id.txt", "vehicle_info.txt"):
        rest = {n: c for n, c in files.items() if n != split_of + name}
        assert f"'{split_of}{name}' is missing" in refused(rest, subset="3000")


# VRIC


def vric() -> dict[str, Content]:
    lists = {
        "train": "".join(f"{i}_{c}.jpg {i} {c}\n" for i in (0, 1, 2) for c in (3, 4)),
        "probe": "0.jpg 0 3\n1.jpg 1 4\n",
        "gallery": "0.jpg 0 5\n1.jpg 1 6\n",
    }
    names = [
        f"VRIC/{part}_images/{line.split()[0]}"
        for part, text in lists.items()
        for line in text.splitlines()
    ]
    return images(*names) | {f"VRIC/vric_{part}.txt": text for part, text in lists.items()}


def test_vrics_test_vehicles_are_others() -> None:
    dataset = read_files(vric())
    assert dataset.layout == "vric"
    assert roles(dataset) == {"train": 6, "query": 2, "gallery": 2}
    assert {s.identity for s in dataset.samples} == {
        "train/0", "train/1", "train/2", "test/0", "test/1"
    }  # fmt: skip
    assert dataset.understood["cameras"] == 4
    assert "is missing" in refused({n: c for n, c in vric().items() if "vric_probe" not in n})
    assert "there is no image" in refused({n: c for n, c in vric().items() if "0_3.jpg" not in n})


# CityFlow-ReID


def cityflow() -> dict[str, Content]:
    items = "".join(
        f'<Item imageName="{k:06}.jpg" vehicleID="{k // 2:04}" cameraID="c{k % 2 + 1:03}" />\n'
        for k in range(8)
    )
    label = f'<?xml version="1.0" encoding="gb2312"?>\n<Items note="车">\n{items}</Items>\n'
    count = {"train": 8, "query": 2, "test": 3}
    names = [f"AIC/image_{part}/{k:06}.jpg" for part in count for k in range(count[part])]
    texts = ("name_train.txt", "name_query.txt", "name_test.txt", "train_track.txt",
             "train_track_id.txt", "test_track.txt", "test_track_id.txt", "train_label.csv",
             "tool/visualize.py", "tool/dist_example/000001.txt")  # fmt: skip
    return (
        images(*names)
        | {"AIC/train_label.xml": label.encode("gb2312")}
        | {f"AIC/{name}": "000000.jpg\n" for name in texts}
    )


def test_cityflow_by_its_labels() -> None:
    dataset = read_files(cityflow())
    assert dataset.layout == "cityflow"
    assert roles(dataset) == {"train": 8}
    assert {(s.identity, s.pid, s.camid) for s in dataset.samples if s.pid == 1} == {
        ("0000", 1, 1), ("0000", 1, 2)
    }  # fmt: skip
    assert dataset.understood["left_out"] == {
        "images without a label": 5, "lists of names and tracks": 8, "files of tool": 2
    }  # fmt: skip
    assert split.assign_all([dataset], split_config())["query"]


def test_cityflow_takes_labels_of_the_test_part_where_they_tell_vehicles() -> None:
    item = '<Item imageName="{}.jpg" vehicleID="0099" cameraID="c00{}"/>'
    cameras_only = '<Item imageName="000000.jpg" cameraID="c001" />'
    files = cityflow() | {"AIC/query_label.xml": cameras_only, "AIC/test_label.xml": cameras_only}
    assert roles(read_files(files)) == {"train": 8}
    files["AIC/query_label.xml"] = item.format("000001", 1)
    files["AIC/test_label.xml"] = item.format("000000", 2) + "\n" + item.format("000002", 3)
    assert roles(read_files(files)) == {"train": 8, "query": 1, "gallery": 2}
    files["AIC/test_label.xml"] = item.format("000000", 2).replace("0099", "0001")
    assert "identity '0001' is learned" in refused(files)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("000003.jpg", "000099.jpg", "'AIC/train_label.xml', line 6: there is no image"),
        ('vehicleID="0001"', 'vehicleID="?"', "line 5: vehicle '?'; expected a whole number"),
        ('cameraID="c001"', "", "expected imageName and cameraID"),
        ("<Item ", "<It ", "holds no line like <Item"),
    ],
)
def test_a_wrong_label_of_cityflow_is_named(old: str, new: str, message: str) -> None:
    files = cityflow()
    label = files["AIC/train_label.xml"]
    assert isinstance(label, bytes)
    assert message in refused(
        files | {"AIC/train_label.xml": label.replace(old.encode(), new.encode())}
    )


# ATRW


def atrw() -> dict[str, Content]:
    return images(
        *(f"atrw_reid_train/train/{k:06}.jpg" for k in range(9)),
        *(f"atrw_reid_test/test/{k:06}.jpg" for k in range(4)),
    ) | {
        "atrw_anno_reid_train/reid_list_train.csv": "".join(
            f"{k // 2},{k:06}.jpg\n" for k in range(8)
        ),
        "atrw_anno_reid_train/reid_keypoints_train.json": "{}",
        "atrw_anno_reid_test/reid_list_test.csv": "000000.jpg\n",
    }


def test_atrw_leaves_out_tigers_whose_identity_is_not_told() -> None:
    dataset = read_files(atrw())
    assert dataset.layout == "atrw"
    assert roles(dataset) == {"train": 8}
    assert {s.camid for s in dataset.samples} == {NO_CAMERA}
    assert {s.pid for s in dataset.samples} == {1, 2, 3, 4}
    assert dataset.understood["left_out"] == {
        "images whose identity is not told": 5, "lists of test images and key points": 2
    }  # fmt: skip


def test_atrws_evaluation_tells_the_test_identities() -> None:
    truth = '[{"imgid": 0, "entityid": 1, "query": "sing", "frame": [1, 1, 2]},' + ",".join(
        f'{{"imgid": {k}, "entityid": {k // 2 + 1}}}' for k in (1, 2, 3)
    )
    files = atrw() | {"annotations/gt_test_plain.json": truth + "]"}
    dataset = read_files(files)
    assert roles(dataset) == {"train": 8, "test": 4}
    assert dataset.understood["identities"] == 6
    parts = split.assign_all([dataset], split_config())
    assert {s.identity for s in parts["query"]} == {"test/1", "test/2"}
    for wrong in ("[1]", "{", "[{}]", "[" * 100_000):
        assert "is no list of entries" in refused(files | {"annotations/gt_test_plain.json": wrong})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,000000.jpg\n1,000099.jpg\n", "line 2: there is no image 'train/000099.jpg'"),
        ("id,file\n", "line 1: identity 'id'; expected a whole number"),
        ("0 000000.jpg\n", "expected 'identity,image'"),
        ("0,000000.jpg\n1,000000.jpg\n", "stands in"),
    ],
)
def test_a_wrong_line_of_atrws_list_is_named(text: str, message: str) -> None:
    assert message in refused(atrw() | {"atrw_anno_reid_train/reid_list_train.csv": text})
