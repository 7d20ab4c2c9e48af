"""Annotations in JSON and XML, read without trusting them: types, depth, and no entities."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol
from xml.parsers import expat

from deepsort_reid.core.errors import SourceError

DEEPEST = 64  # elements within each other; CVAT has seven
MAX_TEXT = 10_000  # characters of one element's text that are kept


class Json:
    """A value of a JSON document that knows where it stands."""

    def __init__(self, value: Any, where: str):
        """Wrap a value; `where` names the file, and what within it."""
        self.value, self.where = value, where

    def fail(self, expected: str) -> NoReturn:
        """Refuse the value.

        Raises:
            SourceError: always.
        """
        raise SourceError(f"{self.where}: expected {expected}, found {short(self.value)}")

    def get(self, *keys: str) -> "Json | None":
        """The first of some keys that is there and not null.

        Raises:
            SourceError: the value is no object.
        """
        if not isinstance(self.value, dict):
            self.fail("an object")
        key = next((key for key in keys if self.value.get(key) is not None), None)
        return None if key is None else Json(self.value[key], f"{self.where}, {key}")

    def need(self, *keys: str) -> "Json":
        """As `get`, for what must be there."""
        found = self.get(*keys)
        if found is None:
            raise SourceError(f"{self.where}: no '{keys[0]}'")
        return found

    def items(self, what: str) -> list["Json"]:
        """The values of a list."""
        if not isinstance(self.value, list):
            self.fail("a list")
        return [Json(v, f"{self.where}, {what} {n}") for n, v in enumerate(self.value, start=1)]

    def text(self) -> str:
        """A text; a number as it is written."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int):
            self.fail("a text")
        return str(self.value)

    def real(self) -> float:
        """A finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self.fail("a number")
        if abs(self.value) > 1e300 or not math.isfinite(self.value):
            self.fail("a finite number")
        return float(self.value)

    def whole(self) -> int:
        """A whole number, whose absolute value a float64 holds."""
        if self.real() != int(self.value) or abs(self.value) > 2**53:
            self.fail("a whole number")
        return int(self.value)

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            self.fail("true or false")
        return self.value


def short(value: Any) -> str:
    """A value of a document as a text that fits into a line."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return repr(value[:50] if isinstance(value, str) else value)[:60]


def parse_json(data: bytes, where: str) -> Json:
    """Read a JSON document.

    Raises:
        SourceError: it is none.
    """
    try:
        return Json(json.loads(data.decode("utf-8-sig")), where)
    except json.JSONDecodeError as error:
        raise SourceError(f"{where}, line {error.lineno}: no JSON ({error.msg})") from None
    except UnicodeDecodeError:
        raise SourceError(f"{where}: is no text in UTF-8; expected JSON") from None
    except (RecursionError, ValueError) as error:  # nested too deep; a number of 5,000 digits
        raise SourceError(f"{where}: JSON that cannot be read ({error})") from None


# XML


class Handler(Protocol):
    """Receives the elements of an XML document."""

    def start(self, path: tuple[str, ...], attributes: Mapping[str, str], line: int) -> None:
        """An element begins; `path` are the names of those around it, and its own."""

    def end(self, path: tuple[str, ...], text: str) -> None:
        """An element ends; `text` is what it holds before, between and behind its elements."""


def parse_xml(data: bytes, where: str, handler: Handler) -> None:
    """Read an XML document, element by element.

    A document type could define entities that expand without end, or name other files. It is
    refused, and nothing is ever expanded or fetched.

    Raises:
        SourceError: it is no XML, has a document type, or elements too deep within each other.
    """
    parser = expat.ParserCreate()
    path: list[str] = []
    texts: list[list[str]] = []

    def refuse(*_: Any) -> NoReturn:
        raise SourceError(
            f"{where}, line {parser.CurrentLineNumber}: has a document type (DOCTYPE, ENTITY), as "
            "no annotation tool writes; take it out"
        )

    def start(name: str, attributes: dict[str, str]) -> None:
        path.append(name)
        texts.append([])
        if len(path) > DEEPEST:
            raise SourceError(
                f"{where}, line {parser.CurrentLineNumber}: more than {DEEPEST} elements within "
                "each other"
            )
        handler.start(tuple(path), attributes, parser.CurrentLineNumber)

    def end(_: str) -> None:
        handler.end(tuple(path), "".join(texts.pop()).strip()[:MAX_TEXT])
        path.pop()

    def characters(text: str) -> None:
        if texts and len(texts[-1]) < MAX_TEXT:
            texts[-1].append(text[:MAX_TEXT])

    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = characters
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise SourceError(
            f"{where}, line {error.lineno}: no XML ({expat.ErrorString(error.code)})"
        ) from None
    except (LookupError, UnicodeError, ValueError) as error:  # an encoding that Python lacks
        raise SourceError(f"{where}: XML that cannot be read ({error})") from None
