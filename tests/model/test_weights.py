"""Files of weights load however they are wrapped, run nothing, and say what did not fit."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepsort_reid.core.errors import WeightsError
from deepsort_reid.model.network import Design, build
from deepsort_reid.model.weights import load_weights


def wrapped(state: dict[str, Tensor]) -> dict[str, Any]:
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    return {
        "bare": state,
        "bare, module.": prefixed,
        "net_dict": {"net_dict": state, "acc": 91.5, "epoch": 12},
        "state_dict, module.": {"state_dict": prefixed, "optimizer": {"lr": 0.1}},
        "model": {"model": state},
    }


@pytest.mark.parametrize("form", wrapped({}))
def test_weights_load_however_they_are_wrapped(tmp_path: Path, form: str) -> None:
    source = build(Design(), 9, seed=1)
    torch.save(wrapped(source.state_dict())[form], tmp_path / "w.pth")
    net = build(Design(), 4, seed=2)
    report = load_weights(net, tmp_path / "w.pth")
    assert report.skipped == {"fc.weight": "(9, 512) for (4, 512)", "fc.bias": "(9,) for (4,)"}
    assert (report.missing, report.unknown) == ([], [])
    assert torch.equal(net.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert "fc.weight (9, 512) for (4, 512)" in str(report)


def test_what_is_missing_and_what_is_unknown_is_reported(tmp_path: Path) -> None:
    state = build(Design(), 4).state_dict()
    del state["conv1.weight"]
    torch.save(state | {"extra.weight": torch.zeros(3)}, tmp_path / "w.pth")
    report = load_weights(build(Design(), 4), tmp_path / "w.pth")
    assert (report.missing, report.unknown) == (["conv1.weight"], ["extra.weight"])


class Evil:
    """A pickle that would create a file when loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def bad_files(tmp_path: Path) -> dict[str, bytes]:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    torch.save({"a": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    whole = (tmp_path / "other.pth").read_bytes()
    return {
        "fits nothing": whole,
        "code": (tmp_path / "evil.pth").read_bytes(),
        "old pickle with code": pickle.dumps(Evil(tmp_path / "ran")),
        "no tensors": (tmp_path / "empty.pth").read_bytes(),
        "truncated": whole[: len(whole) // 2],
        "text": b"these are no weights\n",
        "nothing": b"",
    }


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("fits nothing", "none of its 2 tensors fits the network"),
        ("code", "only running its code could load, which is refused"),
        ("old pickle with code", "it is damaged, or no file of torch.save"),
        ("no tensors", "no tensors in it; expected a state dict"),
        ("truncated", "it is damaged, or no file of torch.save"),
        ("text", "it is damaged, or no file of torch.save"),
        ("nothing", "it is damaged, or no file of torch.save"),
        ("missing", "no such file"),
    ],
)
def test_weights_that_are_none(tmp_path: Path, case: str, message: str) -> None:
    path = tmp_path / "w.pth"
    if case != "missing":
        path.write_bytes(bad_files(tmp_path)[case])
    with pytest.raises(WeightsError) as caught:
        load_weights(build(Design(), 3), path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
