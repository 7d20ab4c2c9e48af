"""Every form that can hold a network does so for one network of each kind, and says why otherwise.

What each file embeds is compared with the checkpoint by its own runtime, as stage export does it.
"""

import copy
from pathlib import Path

import pytest
import torch

from deepsort_reid.core import files
from deepsort_reid.core.errors import ExportError
from deepsort_reid.data.loading.augment import normalise
from deepsort_reid.export import export, parity, roboflow
from deepsort_reid.export.formats import FORMS, Form
from deepsort_reid.model import network
from deepsort_reid.model.pretrained.loading import load_weights
from tests.support.exports import crops, trained
from tests.support.networks import EXAMPLES, TRANSFORMERS

SIZE = (64, 32)  # the smallest whose last feature maps instance normalisation has room for
GRAPHS = {"boxmot.onnx", "ultralytics.onnx", "model.pt2"}
BY_NAME = {"boxmot.pt", "torchreid.pth"}
BRANCHED = "timm/repvit_m0_9"  # trained with more branches than it is deployed with
FILES = {
    "resnet18": BY_NAME | {"roboflow"},
    "resnet50": BY_NAME | {"roboflow"},
    "resnet50_ibn_a": {"torchreid.pth"},
    "osnet_x0_25": BY_NAME | {"roboflow"},
    "osnet_ibn_x1_0": BY_NAME,
    "osnet_ain_x0_25": BY_NAME,
    "timm/mobilenetv4_conv_small": {"roboflow"},
    BRANCHED: {"roboflow"},
}


@pytest.mark.parametrize("arch", [*EXAMPLES, *TRANSFORMERS, "resnet50_ibn_a", BRANCHED])
@pytest.mark.slow
def test_every_form_that_can_hold_it_does(arch: str, tmp_path: Path) -> None:
    made, images = trained(arch, SIZE), crops(64, SIZE)
    expected = parity.reference(made, images)
    forms = {form.file: form for form in FORMS if form.obstacle(made) is None}
    assert set(forms) == GRAPHS | FILES.get(arch, set())
    for file, form in forms.items():
        form.write(tmp_path / file, made)
        rows = export.verify_file(tmp_path, form, images, expected)
        assert min(row.cosine for row in rows) >= 0.99999


def form_of(file: str) -> Form:
    (form,) = [form for form in FORMS if form.file == file]
    return form


@pytest.mark.slow
def test_graphs_are_of_the_form_that_is_deployed() -> None:
    import onnx

    made = trained(BRANCHED, SIZE)
    convolutions = [node for node in made.graph.graph.node if node.op_type == "Conv"]
    trained_ones = [one for one in made.net.modules() if isinstance(one, torch.nn.Conv2d)]
    assert len(convolutions) < 0.9 * len(trained_ones)
    assert onnx.checker.check_model(made.graph) is None


def test_an_osnet_keeps_its_last_map_anyway() -> None:
    made = trained("osnet_x0_25", SIZE, last_stride=1)
    assert form_of("boxmot.pt").obstacle(made) is None
    made = trained("resnet18", SIZE, last_stride=1)
    assert "last_stride is 1" in str(form_of("boxmot.pt").obstacle(made))


@pytest.mark.parametrize(
    ("arch", "names", "size", "why"),
    [
        ("timm/vit_tiny_patch16_224", (), (64, 32), "for images of 224×224 alone, split.image_si"),
        ("timm/vit_tiny_patch16_224", (), (224, 224), None),
        ("timm/resnet18", ("conv1.weight",), (64, 32), None),
        ("timm/resnet18", ("encoder.weight",), (64, 32), "takes the names of some tensors of timm"),
        ("timm/resnet18", ("classifier.0.weight",), (64, 32), "takes the names of some tensors"),
        ("osnet_x0_25", ("classifier.weight",), (64, 32), None),
    ],
)
def test_what_roboflow_s_reid_cannot_build(
    arch: str, names: tuple[str, ...], size: tuple[int, int], why: str | None
) -> None:
    found = roboflow.refusal(arch, names, size)
    assert found is None if why is None else why in str(found)


def test_a_roboflow_folder_is_a_source_of_weights(tmp_path: Path) -> None:
    """What is exported begins another training, too."""
    made = trained("osnet_x0_25", SIZE)
    form_of("roboflow").write(tmp_path / "a", made)
    other = network.build(network.Design("osnet_x0_25"), 9, seed=5)
    load_weights(other, tmp_path / "a" / "weights.safetensors")
    images = normalise(torch.from_numpy(crops(4, SIZE)))
    with torch.inference_mode():
        ours, theirs = (network.embed(net.eval(), images) for net in (made.net, other))
    assert torch.equal(ours, theirs)
    config = files.read_json(tmp_path / "a" / "reid_config.json")
    assert config["architecture"] == "osnet_x0_25"
    assert config["preprocessing"]["input_size"] == [64, 32]
    assert config["deepsort_reid"]["max_cosine_distance"] == made.max_cosine_distance


@pytest.mark.parametrize("file", ["boxmot.pt", "roboflow"])
def test_weights_that_do_not_fit_are_refused(file: str, tmp_path: Path) -> None:
    made = trained("osnet_x0_25", SIZE)
    more = copy.deepcopy(made.net)
    more.extra = torch.nn.Linear(2, 2)
    form = form_of(file)
    form.write(tmp_path / "a", type(made)(net=more, about=made.about, max_cosine_distance=0.1))
    with pytest.raises(ExportError, match="its weights do not fit"):
        form.open(tmp_path / "a")
