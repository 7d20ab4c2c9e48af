"""Small files that claim, or expand to, more than any machine holds."""

import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np
from PIL import Image

HUGE = 65_500


def images() -> Mapping[str, bytes]:
    """Images of a billion pixels and more, some of them real and some of them lies."""
    return {
        "png header": png_claiming(HUGE, HUGE),
        "png in truth": encoded(Image.new("1", (32_000, 32_000)), "PNG"),
        "png within the limit": encoded(Image.new("1", (5000, 5000)), "PNG"),
        "png text": png_with(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20 << 20))),
        "png profile": png_with(b"iCCP", b"ICC\0\0" + zlib.compress(bytes(20 << 20))),
        "png data": png_with(b"IDAT", zlib.compress(bytes(50 << 20))),
        "jpeg header": jpeg_claiming(HUGE, HUGE),
        "gif screen": b"GIF89a" + struct.pack("<HH", HUGE, HUGE) + gif()[10:],
        "gif frame": gif_frame_claiming(HUGE, HUGE),
        "bmp header": patched(encoded(small(), "BMP"), 18, struct.pack("<ii", HUGE, HUGE)),
        "bmp negative": patched(encoded(small(), "BMP"), 18, struct.pack("<ii", -HUGE, -HUGE)),
        "webp canvas": webp_claiming(1 << 24, 1 << 8),
        "webp square": webp_claiming(1 << 14, 1 << 14),
        "tiff header": tiff_claiming(HUGE, HUGE),
        "ppm header": b"P6 99999 99999 255\n" + bytes(99),
        "ppm digits": b"P6 " + b"9" * 1_000_000,
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n(ran) show\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="99999" height="99999"/>',
    }


def small() -> Image.Image:
    """An image that is not one colour."""
    return Image.linear_gradient("L").resize((16, 32)).convert("RGB")


def encoded(image: Image.Image, kind: str) -> bytes:
    """An image as a file of a format."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """Bytes with others in the place of some."""
    return data[:at] + new + data[at + len(new) :]


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_claiming(width: int, height: int) -> bytes:
    """A small PNG whose header says so much, its checksum right."""
    data = encoded(small(), "PNG")
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return patched(data, 8, chunk(b"IHDR", header))


def png_with(kind: bytes, content: bytes) -> bytes:
    """A small PNG with one more chunk before its data."""
    data = encoded(small(), "PNG")
    return data[:33] + chunk(kind, content) + data[33:]


def jpeg_claiming(width: int, height: int) -> bytes:
    """A JPEG whose frame header says so much."""
    data = encoded(small(), "JPEG")
    at = data.index(b"\xff\xc0")
    return patched(data, at + 5, struct.pack(">HH", height, width))


def gif() -> bytes:
    return encoded(small(), "GIF")


def gif_frame_claiming(width: int, height: int) -> bytes:
    """A GIF whose first frame is larger than its screen."""
    data = gif()
    at = data.index(b"\x2c\0\0\0\0")
    return patched(data, at + 5, struct.pack("<HH", width, height))


def webp_claiming(width: int, height: int) -> bytes:
    """A WebP whose canvas is so large."""
    simple = encoded(small(), "WEBP")[12:]
    canvas = struct.pack("<IHBHB", 0, (width - 1) & 0xFFFF, (width - 1) >> 16,
                         (height - 1) & 0xFFFF, (height - 1) >> 16)  # fmt: skip
    content = b"WEBPVP8X" + struct.pack("<I", len(canvas)) + canvas + simple
    return b"RIFF" + struct.pack("<I", len(content)) + content


def tiff_claiming(width: int, height: int) -> bytes:
    """A TIFF whose first directory says so much."""
    data = encoded(small(), "TIFF")
    for tag, number in ((256, width), (257, height)):
        at = data.index(struct.pack("<HHI", tag, 4, 1)) if struct.pack("<HHI", tag, 4, 1) in data \
            else data.index(struct.pack("<HHI", tag, 3, 1))  # fmt: skip
        data = patched(data, at, struct.pack("<HHII", tag, 4, 1, number))
    return data


def overlapping_zip(name: str, content: bytes, times: int) -> bytes:
    """A zip of which many entries of its directory point to the same bytes.

    After D. Fifield, "A better zip bomb", WOOT 2019.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    data = file.getvalue()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    directory = data[start:end]
    entries = b"".join(
        directory.replace(name.encode(), f"{number:0{len(name)}}".encode()) if number else directory
        for number in range(times)
    )
    trailer = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, times & 0xFFFF, times & 0xFFFF,
                          len(entries), start, 0)  # fmt: skip
    return data[:start] + entries + trailer


def deflated_zip(contents: Mapping[str, bytes]) -> bytes:
    """A zip, compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def tar(contents: Mapping[str, bytes]) -> bytes:
    """A tar, in the POSIX format, which takes names of any length."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def yaml() -> Mapping[str, bytes]:
    """Texts that are YAML, or look like it, and are no parameters."""
    laughs = "a0: &a0 [lol]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
    )
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000))
    texts = {
        "a billion laughs": laughs,
        "laughs where a word is expected": laughs + "arch: *a29\n",
        "laughs where a number is expected": laughs + "lr: *a29\n",
        "a chain of aliases": chain + "arch: *a2999\n",
        "in itself": "arch: &a [*a]\nlr: *a\n",
        "in itself, by key": "lr: &a {b: *a}\n",
        "lists in lists": "lr: " + "[" * 30_000,
        "sections in sections": "{a: " * 15_000,
        "dashes": "- " * 30_000,
        "questions": "? " * 10_000,
        "a number of many digits": "seed: " + "9" * 60_000,
        "a number of 400 digits": "seed: " + "9" * 400,
        "an exponent": "lr: 1e999999999",
        "longer than a file of parameters": "# \n" * 1_000_000,
        "a long key": "k" * 60_000 + ": 1",
        "a long word": "arch: " + "k" * 60_000,
        "a list as a key": "? [a, b]\n: 1",
        "a section as a key": "{a: 1}: 1",
        "object": "lr: !!python/object/apply:os.mkdir ['a pickle ran']",
        "object by new": "lr: !!python/object/new:os.mkdir ['a pickle ran']",
        "module": "lr: !!python/module:antigravity",
        "name": "lr: !!python/name:os.system",
        "int": "lr: !!int abc",
        "float": "lr: !!float abc",
        "bool": "lr: !!bool abc",
        "timestamp": "lr: !!timestamp abc",
        "a day that is none": "lr: !!timestamp 9999-99-99",
        "binary": "lr: !!binary ä",
        "set": "lr: !!set {a, b}",
        "pairs": "lr: !!pairs [a: 1, a: 2]",
        "merge": "<<: {lr: 1}",
        "lines in a word": 'arch: "a\\nerror: b\\x1b[2J"',
        "lines in a key": '"a\\nerror: b": 1',
        "two documents": "lr: 1\n---\nlr: 2\n",
        "a directive": "%YAML 9.9\n---\nlr: 1\n",
    }
    return {name: text.encode() for name, text in texts.items()} | {
        "nul": b"lr: 0.1\0\n",
        "utf-16": "lr: 0.1\n".encode("utf-16"),
        "latin-1": "arch: ä\n".encode("latin-1"),
        "half a character": "arch: ä".encode()[:-1],
        "escapes": b"\x1b[2Jlr: 1",
    }


def json() -> Mapping[str, bytes]:
    """Texts that are JSON, or look like it, and are no report."""
    return {
        "lists in lists": b"[" * 1_000_000,
        "objects in objects": b'{"a":' * 1_000_000,
        "a number of a million digits": b'{"run_id": ' + b"9" * 1_000_000 + b"}",
        "an exponent": b'{"run_id": 1e999999999}',
        "utf-16": '{"run_id": "a"}'.encode("utf-16"),
        "nul": b"\0" * 100,
        "half a character": b'{"run_id": "\xc3',
        "an open text": b'{"run_id": "' + b"a" * 1_000_000,
    }


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: object, *arguments: object):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.function, self.arguments


def in_torchs_zip(pickled: bytes, **records: bytes) -> bytes:
    """A pickle and records of storages as torch.save lays them out."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        for name, content in records.items():
            archive.writestr(f"archive/data/{name.lstrip('_')}", content)
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()


def torch(valid: bytes) -> Mapping[str, bytes]:
    """Files of torch.save that expand, or whose pickle claims what is not there.

    Args:
        valid: a file of weights.
    """
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    zeros = {name: bytes(20 << 20) if "/data/" in name else c for name, c in contents.items()}
    nested = b"\x80\x02" + b"(" * 1_000_000 + b"l" * 1_000_000 + b"."
    laughs = b"\x80\x02]q\0" + b"".join(
        b"(" + b"h" + bytes([n]) * 1 + (b"h" + bytes([n])) * 9 + b"l" + b"q" + bytes([n + 1])
        for n in range(30)
    )
    return {
        "deflated": deflated_zip(contents),
        "deflated zeros": deflated_zip(zeros),
        "overlapping": overlapping_zip("archive/data.pkl", bytes(10_000_000), 300),
        "a bytearray of a terabyte": in_torchs_zip(pickle.dumps(Call(bytearray, 1 << 40), 2)),
        "a range": in_torchs_zip(pickle.dumps(range(1 << 60), 2)),
        "lists in lists": in_torchs_zip(nested),
        "a billion laughs": in_torchs_zip(laughs + b"."),
        "a stack without end": in_torchs_zip(b"\x80\x02" + b"N" * 1_000_000 + b"."),
        "a long of a gigabyte": in_torchs_zip(b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"1."),
        "a text of a gigabyte": in_torchs_zip(b"\x80\x02X" + struct.pack("<I", 1 << 30) + b"a."),
        "an endless memo": in_torchs_zip(b"\x80\x02Nr\xff\xff\xff\x7f."),
    }


def safetensors() -> Mapping[str, bytes]:
    """Files of safetensors whose header claims what is not there."""
    tensor = '{"dtype":"F32","shape":[%s],"data_offsets":[%s]}'
    headers = {
        "a shape of terabytes": f'{{"a":{tensor % ("1099511627776", "0,4398046511104")}}}',
        "a shape that overflows": f'{{"a":{tensor % (f"{1 << 40},{1 << 40}", "0,16")}}}',
        "overlapping": f'{{"a":{tensor % ("4", "0,16")},"b":{tensor % ("4", "0,16")}}}',
        "backwards": f'{{"a":{tensor % ("4", "16,0")}}}',
        "negative": f'{{"a":{tensor % ("-4", "0,16")}}}',
        "many": "{" + ",".join(f'"{n}":{tensor % ("0", "0,0")}' for n in range(100_000)) + "}",
        "lists in lists": '{"a":' + "[" * 1_000_000,
        "no tensors": '{"__metadata__":{"a":"b"}}',
    }
    packed = {
        name: struct.pack("<Q", len(text)) + text.encode() + bytes(16)
        for name, text in headers.items()
    }
    return packed | {"a header of exabytes": struct.pack("<Q", 1 << 62) + b'{"a":1}'}


def npy(array: np.ndarray) -> Mapping[str, bytes]:
    """Arrays whose headers claim what is not there.

    Args:
        array: the real one.
    """
    texts = {
        "huge": "{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999, 32, 16, 3)}",
        "overflow": "{'descr': '|u1', 'fortran_order': False, 'shape': (1 << 62, 4, 1, 3)}".replace(
            "1 << 62", str(1 << 62)
        ),
        "negative": "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 32, 16, 3)}",
        "no tuple": "{'descr': '|u1', 'fortran_order': False, 'shape': 7}",
        "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1, 32, 16, 3)}",
        "no type": "{'descr': 'nonsense', 'fortran_order': False, 'shape': (1, 32, 16, 3)}",
        "nested": "(" * 5000 + ")" * 5000,
        "minus": "-" * 9000 + "1",
        "long": "{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}" + " " * 60_000,
        "call": "__import__('os').mkdir('a pickle ran')",
        "open": "{'descr': '|u1', ",
    }
    body = array.tobytes()
    found = {
        name: b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + body
        for name, text in texts.items()
    }
    packed = io.BytesIO()
    np.savez_compressed(packed, images=np.zeros((20 << 20,), np.uint8))
    return found | {
        "a header of four gigabytes": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + body,
        "version 9": b"\x93NUMPY\x09\x00" + body,
        "npz": packed.getvalue(),
    }
