"""What a training computes in: float32, or bfloat16 where that is clearly faster and right."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from deepsort_reid.core import files
from deepsort_reid.core.config import TrainConfig
from deepsort_reid.model import network
from deepsort_reid.model.network import Design
from deepsort_reid.runs import unfinished
from deepsort_reid.training import arithmetic, bfloat16, fingerprint
from deepsort_reid.training.arithmetic import choose_bfloat16, has_bfloat16
from deepsort_reid.training.bfloat16 import Float32Conv2d, keep_wrong_in_float32
from deepsort_reid.training.losses.teacher import Teacher
from deepsort_reid.training.ranks.distributed import ALONE, Process
from deepsort_reid.training.trainer import Trainer
from tests.support.equal_trainings import result
from tests.support.exports import trained
from tests.support.ranks import on_ranks
from tests.support.trainings import SIZE, config, part, tiny

CPU = torch.device("cpu")


@pytest.fixture
def able(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A CPU with bfloat16; the seconds of passes in it, where those in float32 take one."""
    told = {"seconds": 0.5}
    for module in (arithmetic, unfinished):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    monkeypatch.setattr(arithmetic, "has_bfloat16", lambda _: True)
    monkeypatch.setattr(arithmetic, "in_turns", lambda _: [1.0, told["seconds"]])
    return told


def choose(recipe: TrainConfig, process: Process = ALONE, digest: str = "") -> bool:
    return choose_bfloat16(tiny(recipe), recipe, process, image_size=SIZE, data_digest=digest)


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, True), (0.9, False), (1.5, False)])
def test_it_is_taken_where_it_is_clearly_faster(
    able: dict[str, float], seconds: float, expected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    able["seconds"] = seconds
    with caplog.at_level("INFO", "deepsort_reid"):
        assert choose(config()) is expected
    assert f"training in {'bfloat16' if expected else 'float32'}: " in caplog.text
    assert f"{8 / seconds:.0f} in bfloat16" in caplog.text  # of a batch of eight


@pytest.mark.usefixtures("able")
def test_the_parameters_can_forbid_it() -> None:
    assert not choose(config(amp=False))


def test_a_cpu_without_instructions_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False})
    monkeypatch.setattr(arithmetic, "is_faster", lambda *_: pytest.fail("it was measured"))
    assert not choose(config())


def test_a_measurement_is_about_the_network_as_it_is() -> None:
    """And leaves weights, mode and random state alone."""
    net = tiny(config()).eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    sides = [arithmetic.Passes(net, SIZE, 4, bfloat16=which) for which in (False, True)]
    assert all(seconds > 0 for seconds in arithmetic.in_turns(sides))
    assert not net.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_large_networks_are_measured_with_few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny(config())
    assert arithmetic.affordable_batch(net, SIZE, 8) == 8
    monkeypatch.setattr(arithmetic, "SECONDS", 0.0)
    assert arithmetic.affordable_batch(net, SIZE, 8) == 2


class Pass:
    """A pass that takes as long as it is told, or the last time again; it counts its calls."""

    def __init__(self, *seconds: float):
        self.seconds, self.calls = seconds, 0

    def __call__(self) -> float:
        self.calls += 1
        return self.seconds[min(self.calls, len(self.seconds)) - 1]


def in_turns(*sides: Pass) -> list[float]:
    return arithmetic.in_turns(cast("list[arithmetic.Passes]", sides))


def test_short_passes_are_measured_often_enough_to_come_out_even() -> None:
    """A machine whose other users take it away for a while slows down whatever runs just then."""
    disturbed, calm = Pass(0.01, 0.03, 0.03, 0.03, 0.01), Pass(0.01)
    assert in_turns(disturbed, calm) == [0.01, 0.01]
    assert 20 < calm.calls < 30


def test_long_passes_are_measured_twice() -> None:
    assert in_turns(Pass(9.0, 3.0, 2.0), Pass(9.0, 1.0, 1.5)) == [2.0, 1.0]


def on_one_that_disagrees(process: Process) -> bool:
    seconds = [1.0, 0.6 if process.is_first else 0.9]  # 1.67 and 1.11, together 1.33 times as fast
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "has_bfloat16", lambda _: True)
        patch.setattr(arithmetic, "in_turns", lambda _: seconds)
        return choose(config(), process)


def test_ranks_that_measure_different_times_agree() -> None:
    assert on_ranks(2, on_one_that_disagrees) == [False, False]


@pytest.mark.parametrize("begun", [True, False])
def test_an_interrupted_training_goes_on_in_what_it_began_with(
    able: dict[str, float], begun: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, digest = config(), "ab" * 32
    able["seconds"] = 2.0 if begun else 0.5  # the machine has changed its mind
    made_of = fingerprint.of_training(recipe, ALONE, data_digest=digest, bfloat16=begun)
    assert choose(recipe, digest=digest) is not begun
    folder = tmp_path / unfinished.FOLDER / made_of.key()[: unfinished.DIGITS]
    folder.mkdir(parents=True)
    files.write_json(folder / "identity.json", made_of.as_plain())
    with caplog.at_level("INFO", "deepsort_reid"):
        assert choose(recipe, digest=digest) is begun
    assert f"training in {fingerprint.arithmetic(begun)}, as the interrupted" in caplog.text
    assert choose(config(lr=0.5), digest=digest) is not begun  # another training


@pytest.mark.parametrize("first", [True, False])
def test_what_was_measured_once_holds(
    able: dict[str, float], first: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, digests = config(), ("ab" * 32, "cd" * 32)
    able["seconds"] = 0.5 if first else 2.0
    assert choose(recipe, digest=digests[0]) is first
    able["seconds"] = 2.0 if first else 0.5  # the next measurement would come out the other way
    with caplog.at_level("INFO", "deepsort_reid"):
        for other in (recipe, config(lr=0.5), config(epochs=99)):
            assert choose(other, digest=digests[1]) is first
    assert caplog.text.count("as an earlier measurement says") == 3
    assert choose(recipe) is not first  # who measures, measures
    for other in (config(batch_size=4), config(last_stride=1)):
        assert choose(other, digest=digests[1]) is not first
    for file in (tmp_path / arithmetic.FOLDER).iterdir():
        file.write_text(file.read_text().replace("float", "flaot"))
    assert choose(recipe, digest=digests[0]) is not first


def test_a_choice_that_cannot_be_kept_is_measured_again(
    able: dict[str, float], tmp_path: Path
) -> None:
    (tmp_path / arithmetic.FOLDER).write_text("a file where the folder should be")
    assert choose(config(), digest="ab" * 32)
    able["seconds"] = 2.0
    assert not choose(config(), digest="ab" * 32)


@pytest.mark.usefixtures("able")
def test_what_another_training_has_kept_meanwhile_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured_beside_another(_: object) -> list[float]:
        monkeypatch.setattr(arithmetic, "in_turns", lambda _: [1.0, 2.0])
        assert not choose(config(), digest="cd" * 32)  # the other one, which is done first
        return [1.0, 0.5]

    monkeypatch.setattr(arithmetic, "in_turns", measured_beside_another)
    assert not choose(config(), digest="ab" * 32)
    (kept,) = (tmp_path / arithmetic.FOLDER).glob("*.json")
    assert files.read_json(kept)["arithmetic"] == "float32"


def test_another_number_of_identities_is_another_question(able: dict[str, float]) -> None:
    recipe, digest = config(), "ab" * 32
    assert choose(recipe, digest=digest)
    able["seconds"] = 2.0
    assert choose(recipe, digest=digest)
    more = network.build(Design(recipe.arch), 500, image_size=SIZE)
    assert not choose_bfloat16(more, recipe, ALONE, image_size=SIZE, data_digest=digest)


def on_one_that_remembers(process: Process, root: Path) -> list[bool]:
    """Two choices; the second machine would answer otherwise each time."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "has_bfloat16", lambda _: True)
        for module in (arithmetic, unfinished):
            patch.setattr(module, "project_root", lambda: root / str(process.rank))
        for seconds in (0.5, 2.0):
            patch.setattr(arithmetic, "in_turns", lambda _, s=seconds: [1.0, s])
            found.append(choose(config(), process, "ab" * 32))
    return found


def test_all_ranks_follow_the_first_one_s_memory(tmp_path: Path) -> None:
    assert on_ranks(2, on_one_that_remembers, tmp_path) == [[True, True]] * 2
    assert [folder.name for folder in tmp_path.iterdir()] == ["0"]


def test_it_is_part_of_the_identity() -> None:
    one, other = (
        fingerprint.of_training(config(), ALONE, data_digest="ab" * 32, bfloat16=which)
        for which in (False, True)
    )
    assert fingerprint.differences(one, other) == [
        "environment: arithmetic is bfloat16 here, float32 there"
    ]


# Training in it


def in_bfloat16(process: Process = ALONE, **changes: Any) -> Trainer:
    recipe = config(**changes)
    return Trainer(tiny(recipe), part(11, 0), part(3, 1), recipe, process, bfloat16=True)


def test_the_network_learns_in_bfloat16() -> None:
    own = in_bfloat16(epochs=6, erase=0.0, flip=0.0, crop_padding=0)
    dtypes = set()
    own.learner.net.layer1.register_forward_hook(lambda _, __, output: dtypes.add(output.dtype))
    history = own.fit()
    assert dtypes == {torch.bfloat16}
    assert history[-1].train_loss < 0.8 * history[0].train_loss
    assert all(weight.dtype == torch.float32 for weight in own.learner.net.parameters())
    assert own.learner.net.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_same_training_gives_the_same_bits() -> None:
    one, other = (in_bfloat16() for _ in range(2))
    for own in (one, other):
        own.fit()
    for name, values in result(one)[1].items():
        assert (result(other)[1][name] == values).all(), name


def weights_of(process: Process) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    own = in_bfloat16(process, batch_size=16 // process.world_size)
    own.fit()
    return own.learner.net.state_dict()


def test_two_ranks_learn_in_it_too() -> None:
    first, second = on_ranks(2, weights_of)
    alone = weights_of(ALONE)
    for name, tensor in first.items():
        assert torch.equal(second[name], tensor)
        torch.testing.assert_close(tensor, alone[name], atol=0.1, rtol=0.1)


@pytest.mark.usefixtures("narrow_networks")
def test_a_teacher_computes_in_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "is_right", lambda kind, _: kind.stride != (2, 2))
    known = trained("resnet18", SIZE)
    teacher = Teacher(known.net, known.about, CPU)
    recipe = config(teacher="t.pth")
    own = Trainer(
        tiny(recipe), part(11, 0), part(3, 1), recipe, ALONE, teacher=teacher, bfloat16=True
    )
    own.fit()
    kept = [module for module in teacher.net.modules() if isinstance(module, Float32Conv2d)]
    assert kept
    assert {conv.stride for conv in kept} == {(2, 2)}


# Convolutions that are wrong in it


def test_wrong_convolutions_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network.build(network.Design("resnet18"), 4, image_size=(64, 32))
    before = net.state_dict().keys()
    monkeypatch.setattr(
        bfloat16, "is_right", lambda kind, _: (kind.maps[1:], kind.stride) != ((4, 2), (2, 2))
    )
    expected = ["layer4.0.conv1", "layer4.0.downsample.0"]
    assert keep_wrong_in_float32(net, (64, 32)) == expected
    assert net.state_dict().keys() == before
    found = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _, __, output, name=name: found.update({name: output.dtype})
            )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(torch.zeros(2, 3, 64, 32))
    assert [name for name, dtype in found.items() if dtype == torch.float32] == expected
    assert keep_wrong_in_float32(net, (64, 32)) == []  # they are no longer asked


def test_a_convolution_that_reads_unwritten_memory_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Played by one whose weight's gradient has one value that is no number."""
    kind = bfloat16.Kind((8, 4, 4), (8, 8, 3, 3), (1, 1), (1, 1), (1, 1), 1)
    assert bfloat16.is_right(kind, torch.channels_last)
    sound = bfloat16.both_gradients

    def unsound(gradient: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        of_images, of_weight = sound(gradient, *rest)
        if gradient.dtype == torch.bfloat16:
            of_weight[0, 0, 0, 0] = torch.nan
        return of_images, of_weight

    monkeypatch.setattr(bfloat16, "both_gradients", unsound)
    assert not bfloat16.is_right(kind, torch.channels_last)


@pytest.mark.skipif(not has_bfloat16(CPU), reason="the processor has no bfloat16")
@pytest.mark.parametrize("size", [(32, 16), (64, 32)])
def test_no_step_meets_what_nobody_wrote(size: tuple[int, int]) -> None:
    """Without the check, a step in ten has a loss or a gradient that is no number."""
    net = network.build(network.Design("resnet18"), 4, image_size=size).train()
    net = net.to(memory_format=torch.channels_last)
    keep_wrong_in_float32(net, size)
    images = torch.randn(8, 3, *size).contiguous(memory_format=torch.channels_last)
    sizes = [net.layer4[0].conv1.weight.numel(), images.numel(), 8 * 256 * 8]
    for _ in range(12):
        bfloat16.fill_free_memory(sizes)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(images)
        bfloat16.fill_free_memory(sizes)
        logits.float().square().mean().backward()
        assert logits.isfinite().all()
        assert all(weight.grad.isfinite().all() for weight in net.parameters())
        net.zero_grad()


# The memory format


@pytest.mark.parametrize(
    ("arch", "in_bfloat16", "expected"),
    [
        ("resnet18", False, torch.contiguous_format),
        ("resnet18", True, torch.channels_last),
        ("osnet_x0_25", False, torch.channels_last),  # its convolutions are depthwise
    ],
)
def test_the_memory_format(arch: str, in_bfloat16: bool, expected: torch.memory_format) -> None:
    net = network.build(network.Design(arch), 4)
    assert network.layout(net, CPU, bfloat16=in_bfloat16) is expected
    assert network.layout(net, torch.device("cuda")) is torch.channels_last
