"""What a file is that holds no weights for us: its kind by its first bytes, and what to do."""

import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

HEAD = 4096  # bytes that are looked at
SAVE_TENSORS = (
    "save its tensors instead, in the program that made it: torch.save(net.state_dict(), …)"
)
TABLE_END = bytes.fromhex("57fb808b247547db")  # of TensorFlow's index of a checkpoint

# Kind, and how such a file begins, at which byte.
BEGINNINGS: Sequence[tuple[str, str, int, Sequence[bytes]]] = (
    ("an HDF5 file, as Keras and TensorFlow write",
     "expected weights of PyTorch: convert them", 0, [b"\x89HDF\r\n\x1a\n"]),
    ("a TensorFlow Lite model", "it holds no weights that can be trained", 4, [b"TFL3"]),
    ("a GGUF file", "expected weights of PyTorch", 0, [b"GGUF"]),
    ("a TensorRT engine", "it holds no weights that can be trained", 0, [b"ptrt", b"ftrt"]),
    ("a NumPy array", SAVE_TENSORS, 0, [b"\x93NUMPY"]),
    ("a pointer of Git LFS, not the file itself", "fetch it with `git lfs pull`", 0,
     [b"version https://git-lfs"]),
    ("the list of a TensorFlow checkpoint", "expected weights of PyTorch: convert them", 0,
     [b"model_checkpoint_path"]),
    ("a compressed archive", "unpack it, and name the file of weights in it", 0,
     [b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd"]),
    ("a tar archive", "unpack it, and name the file of weights in it", 257, [b"ustar"]),
)  # fmt: skip
# Kind, remedy, and a part of the name of a member of a zip, which tells such a zip.
MEMBERS: Sequence[tuple[str, str, Callable[[str], bool]]] = (
    ("a program of torch.export (.pt2)", SAVE_TENSORS,
     lambda name: name.endswith(("archive_format", "serialized_exported_program.json"))),
    ("a TorchScript file", SAVE_TENSORS, lambda name: "/code/__torch__" in f"/{name}"
     or name.endswith("/constants.pkl")),
    ("a model of Keras", "expected weights of PyTorch: convert them",
     lambda name: name.endswith("model.weights.h5")),
    ("an archive of NumPy arrays", SAVE_TENSORS, lambda name: name.endswith(".npy")),
    ("a package of torch.package", SAVE_TENSORS,
     lambda name: name.endswith(".data/extern_modules")),
)  # fmt: skip


def foreign_kind(path: Path) -> str | None:
    """What a file is and what to do, if it is known to be no file of weights.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(max(0, path.stat().st_size - len(TABLE_END)))
        tail = file.read()
    for kind, remedy, at, beginnings in BEGINNINGS:
        if any(head[at:].startswith(beginning) for beginning in beginnings):
            return f"{kind}; {remedy}"
    if head.startswith(b"PK"):
        return kind_of_zip(path)
    return kind_by_content(path.name, head, tail)


def kind_of_zip(path: Path) -> str | None:
    """What a zip is, if it is none of torch.save."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile fails in many ways on a damaged file
        return None
    for kind, remedy, tells in MEMBERS:
        if any(map(tells, names)):
            return f"{kind}; {remedy}"
    if not any(name.endswith("data.pkl") for name in names):
        shown = ", ".join(sorted(names)[:3]) or "nothing"
        return f"an archive that holds {shown}; unpack it, and name the file of weights in it"
    return None


def kind_by_content(name: str, head: bytes, tail: bytes) -> str | None:
    """What a file is that no fixed bytes tell."""
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not the file; download it in a browser, where it may ask for a login"
    if text.startswith(b"<?xml") and b"<net" in text:
        return f"a model of OpenVINO; {SAVE_TENSORS}"
    if text.startswith(b"{") and b"weight_map" in text:
        return "the index of weights in several files; expected one file that holds all of them"
    if tail == TABLE_END or ".ckpt.data-0" in name or ".data-00000-of-" in name:
        return "a part of a TensorFlow checkpoint; expected weights of PyTorch: convert them"
    # The version of a message in protobuf's encoding, and behind it the name of who made it, or
    # the graph.
    if len(head) > 3 and head[0] == 0x08 and head[1] < 0x80:
        if head[2] in (0x12, 0x1A, 0x3A) and (name.endswith(".onnx") or names_a_program(head)):
            return f"an ONNX model; {SAVE_TENSORS}"
        if name.endswith(".pb"):
            return "a model of TensorFlow; expected weights of PyTorch: convert them"
    return None


def names_a_program(head: bytes) -> bool:
    """Whether a short printable text stands where ONNX has the program that wrote it."""
    length = head[3]
    text = head[4 : 4 + length]
    return head[2] == 0x12 and 0 < length < 0x80 and text.isascii() and text.decode().isprintable()


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as .safetensors does: the length of a header in JSON, and its brace.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) < 9 or head[8:] != b"{":
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return bool(length <= path.stat().st_size - 8)
