"""Pretrained weights into a network: all of its backbone, or an error that says what they are."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from deepsort_reid.core.arch import ARCHS
from deepsort_reid.core.errors import WeightsError
from deepsort_reid.model.backbones.base import ReidNet
from deepsort_reid.model.pretrained.architectures import likely_architecture
from deepsort_reid.model.pretrained.reading import read_state_dicts

logger = logging.getLogger(__name__)

BLOCK = re.compile(r"(^|\.)layer\d\.")  # inside one, its conv1 is not the network's
DEEPEST = 12  # parts of a prefix
MOST_PREFIXES = 20  # that are tried in a state dict
COUNTER = "num_batches_tracked"  # of batches; fits every network, and means nothing alone
# A backbone in an nn.Sequential of a ResNet's children has numbers for names.
NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
AVERAGED = re.compile(r"(?<![a-z])(ema|teacher|shadow|averaged|swa)(?![a-z])", re.IGNORECASE)
COMPANION = re.compile(r"encoder_k|momentum|student|target", re.IGNORECASE)


@dataclass(frozen=True)
class LoadReport:
    """Which tensors of a file of weights a network took, and which it did not."""

    place: str  # where in the file they stood, and with which prefix: "state_dict: module."
    loaded: Sequence[str]
    skipped: Mapping[str, str]  # in the file, of another shape -> "(751, 512) for (64, 512)"
    missing: Sequence[str]  # in the network, not in the file
    unknown: Sequence[str]  # in the file, not in the network

    def __str__(self) -> str:
        counts = f"{len(self.loaded)} tensors loaded"
        place = f" from {self.place}" if self.place else ""
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.skipped.items())
        skipped = f"; skipped by shape: {shapes}" if self.skipped else ""
        return f"{counts}{place}{skipped}{listing('missing in the file', self.missing)}" + listing(
            "unknown to the network", self.unknown
        )


@dataclass(frozen=True)
class Candidate:
    """A state dict of a file as a network may take it: the tensors behind one prefix.

    Attributes:
        place: where it stands in the file, and the prefix that is taken off.
        tensors: without the prefix.
        outside: names of the same dictionary without that prefix.
        fitting: how many tensors of the backbone have their name and shape.
    """

    place: str
    tensors: Mapping[str, Tensor]
    outside: Sequence[str]
    fitting: int

    @property
    def order(self) -> tuple[int, int]:
        """The better the greater: what fits most, and averaged weights before the others."""
        averaged = AVERAGED.search(self.place) is not None
        companion = COMPANION.search(self.place) is not None
        return self.fitting, averaged - (companion and not averaged)


@dataclass(frozen=True)
class Wanted:
    """What a network takes from a file of weights.

    Attributes:
        own: the network's tensors under the names of published files.
        optional: the parts that belong to a recipe and not to a backbone: classifier, neck and
            pooling. A file may lack them, or bring other ones.
    """

    own: Mapping[str, Tensor]
    optional: Sequence[str]

    def is_backbone(self, name: str) -> bool:
        """Whether a tensor belongs to what a pretrained file must bring."""
        return not name.endswith(COUNTER) and not any(
            f"{name}.".startswith(f"{part}.") for part in self.optional
        )


def load_weights(net: ReidNet, path: Path, label: str = "") -> LoadReport:
    """Load a file's tensors into a network, and log which it did not take.

    The whole backbone must be in the file, and no more blocks than the network has: only the
    classifier, and what a recipe adds in front of it, may differ. The file may be one of
    torch.save or .safetensors; the state dict may stand in dictionaries, and its names may have
    a prefix. Of several that fit alike, averaged weights (EMA, a teacher's) are taken.

    Args:
        net: the network, which is changed only if the weights fit.
        path: the file.
        label: what to call it; its path by default.

    Raises:
        WeightsError: the file cannot be read, is of another kind or of another architecture.
    """
    label = label or str(path)
    wanted = Wanted(net.published.state_dict(), net.optional_parts)
    own = wanted.own
    offered = list(candidates(read_state_dicts(path), wanted))
    best = max(offered, key=lambda found: found.order)
    best = replace(best, tensors=net.adapted(best.tensors))
    wrong = differences(best.tensors, wanted)
    if wrong:
        raise another_architecture(offered, best, own, wrong, label)
    fits = {name: w for name, w in best.tensors.items() if fit(w, own.get(name))}
    check_numbers(fits, label)
    net.published.load_state_dict(fits, strict=False)
    report = LoadReport(
        place=best.place,
        loaded=sorted(fits),
        skipped={
            name: differing(tensor, own[name])
            for name, tensor in sorted(best.tensors.items())
            if name in own and name not in fits
        },
        missing=sorted(name for name in own if name not in best.tensors),
        unknown=sorted({name for name in best.tensors if name not in own} | set(best.outside)),
    )
    logger.info("%s: %s", label, report)
    return report


def candidates(found: Mapping[str, Mapping[str, Tensor]], wanted: Wanted) -> Iterator[Candidate]:
    """Yield what a file offers: of each state dict, the tensors behind each likely prefix."""
    own = wanted.own
    for place, state in found.items():
        for prefix in prefixes(state, own):
            tensors = {
                named_as_ours(name.removeprefix(prefix), own): tensor
                for name, tensor in state.items()
                if name.startswith(prefix)
            }
            where = [f"'{place}'"] if place else []
            where += [f"prefix '{prefix}'"] if prefix else []
            yield Candidate(
                place=", ".join(where),
                tensors=tensors,
                outside=[name for name in state if not name.startswith(prefix)],
                fitting=sum(
                    fit(tensor, own.get(name)) and wanted.is_backbone(name)
                    for name, tensor in tensors.items()
                ),
            )


def prefixes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """What stands before the network's own names in a state dict, '' first."""
    found: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for depth in range(1, min(len(parts), DEEPEST)):
            if named_as_ours(".".join(parts[depth:]), own) in own:
                found[".".join(parts[:depth]) + "."] += 1
    likely = [prefix for prefix, _ in found.most_common() if not BLOCK.search(prefix)]
    return ["", *likely[:MOST_PREFIXES]]


def named_as_ours(name: str, own: Mapping[str, Tensor]) -> str:
    """A name with a ResNet's part for its number, `4.0.conv1.weight`, if the network has that."""
    first, dot, rest = name.partition(".")
    part = NUMBERED.get(first)
    return f"{part}.{rest}" if dot and part and name not in own else name


def differences(tensors: Mapping[str, Tensor], wanted: Wanted) -> list[str]:
    """How weights differ from a network's backbone, a few words each."""
    own = wanted.own
    needed = [name for name in own if wanted.is_backbone(name)]
    parts = {name.partition(".")[0] for name in needed}
    others = [
        f"{name} is {differing(tensors[name], own[name])}"
        for name in needed
        if name in tensors and not fit(tensors[name], own[name])
    ]
    missing = [f"{name} is missing" for name in needed if name not in tensors]
    more = [
        f"{name} is more than the network has"
        for name in tensors
        if name not in own and name.partition(".")[0] in parts and wanted.is_backbone(name)
    ]
    return others + missing + more


def another_architecture(
    offered: Sequence[Candidate],
    best: Candidate,
    own: Mapping[str, Tensor],
    wrong: Sequence[str],
    label: str,
) -> WeightsError:
    """What is said of weights that are not the network's: what they are likely to be of."""
    tried = (likely_architecture(found.tensors) for found in (best, *offered))
    likely = next(filter(None, tried), None)
    what = f"it looks like {likely}" if likely else "its architecture is not known here"
    remedy = f"set arch: {likely}, or choose" if likely in ARCHS else "choose"
    if best.fitting == 0:
        return WeightsError(
            f"{label}: none of its {len(best.tensors)} tensors fits the network; it has "
            f"{next(iter(best.tensors))}, the network {next(iter(own))}; {what}: "
            f"{remedy} another file"
        )
    return WeightsError(
        f"{label}: weights of another architecture, {what}; {len(wrong)} tensors differ in the "
        f"backbone, where all must fit: {'; '.join(wrong[:2])}: {remedy} another file"
    )


def check_numbers(tensors: Mapping[str, Tensor], label: str) -> None:
    """Refuse weights that are not numbers to go on from.

    Raises:
        WeightsError: some are not finite.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(
                f"{label}: {name} holds numbers that are not finite; choose another file, of a "
                "training that went well"
            )


def fit(tensor: Tensor, own: Tensor | None) -> bool:
    """Whether a tensor can take the place of one of the network's."""
    return (
        own is not None
        and tensor.shape == own.shape
        and tensor.is_floating_point() == own.is_floating_point()
    )


def differing(tensor: Tensor, own: Tensor) -> str:
    """How a tensor differs from the network's."""
    if tensor.shape == own.shape:
        return f"{tensor.dtype} for {own.dtype}".replace("torch.", "")
    return f"{tuple(tensor.shape)} for {tuple(own.shape)}"


def listing(title: str, names: Sequence[str]) -> str:
    """`; title: a, b, … (12)`, or nothing."""
    if not names:
        return ""
    more = f", … ({len(names)})" if len(names) > 6 else ""
    return f"; {title}: {', '.join(names[:6])}{more}"
