"""What a faulty params.yaml is told: one line with the key, the value and what was expected."""

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from deepsort_reid.core.errors import nearest_hint
from deepsort_reid.core.yaml_file import show

EXPECTED = {  # by pydantic's types of errors
    "int_type": "a whole number",
    "float_type": "a finite number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text (quote it if it looks like a number)",
    "model_type": "a section of parameters",
    "mapping_type": "a section of parameters",
    "dict_type": "a section of parameters",
    "string_pattern_mismatch": "a name of letters, digits, - and _",
}
BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
ENTRY = "{name: street, source: footage/street}"
SEVERAL = "several"  # pydantic's tag of a list where one value may stand too
TAGS = {"one", SEVERAL}


def most_telling(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """An unknown key, else a missing one, else the first error: a misspelt key is both."""
    order = {"invalid_key": 0, "extra_forbidden": 0, "missing": 1}
    return min(errors, key=lambda error: order.get(error["type"], 2))


def explain(error: ErrorDetails, root: type[BaseModel]) -> str:
    """One line for an error: key, value, what was expected.

    Args:
        error: what pydantic found.
        root: the section that was checked. Parameters of its field `train` have no prefix, as they
            stand at the top level of params.yaml.
    """
    kind, value = error["type"], error["input"]
    place = [part for part in error["loc"] if part not in TAGS]
    item = place.pop() if isinstance(place[-1], int) and kind != "invalid_key" else None
    *parents, name = place
    section, prefix = enter(root, parents)
    if kind in ("extra_forbidden", "invalid_key"):
        key = prefix + show(value if kind == "invalid_key" else name)
        return f"unknown key '{key}'; {nearest_hint(key, known_keys(root, section, prefix))}"
    key, field = f"{prefix}{name}", section.model_fields[str(name)]
    choices = get_args(field.annotation)
    if kind == "missing" and item is None:
        return f"key '{key}' is missing; every parameter must be stated"
    if kind == "literal_error":
        return f"unknown {key}={show(value)}; {nearest_hint(show(value), choices)}"
    if kind == "model_type" and item is not None:
        return f"{key}[{item}]={show(value)} must be a section of parameters, {ENTRY}"
    if kind == "string_type" and item is None and section_of(field.annotation):
        return f"{key}={show(value)} must be a text, or a list of entries, [{ENTRY}, …]"
    if kind in ("tuple_type", "too_long", "too_short", "missing"):
        return f"{key}={show(value)} must be a list of {expected_items(choices)}"
    at = key if item is None else f"{key}[{item}]"
    is_bound = kind.startswith(("greater_than", "less_than"))
    expected = expected_range(field, item) if is_bound else EXPECTED.get(kind, error["msg"])
    return f"{at}={show(value)} must be {expected}"


def enter(root: type[BaseModel], parents: Sequence[int | str]) -> tuple[type[BaseModel], str]:
    """The section below `root` that a path leads to, and what its keys begin with."""
    section, prefix = root, ""
    for parent in parents:
        if isinstance(parent, int):
            prefix = f"{prefix.removesuffix('.')}[{parent}]."
            continue
        section = section_of(section.model_fields[parent].annotation) or section
        prefix += "" if parent == "train" else f"{parent}."
    return section, prefix


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section in the type of a field: its own, or that of a list's entries."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_of, get_args(annotation))), None)


def known_keys(root: type[BaseModel], section: type[BaseModel], prefix: str) -> list[str]:
    """The keys that may stand beside an unknown one."""
    names = [prefix + name for name in section.model_fields]
    if section is root or prefix or "train" not in root.model_fields:
        return names
    return [*names, *(name for name in root.model_fields if name not in ("train", "raw"))]


def expected_items(types: Sequence[Any]) -> str:
    """How many values a list has, and of which type, by the arguments of `tuple[…]`."""
    if any(map(section_of, types)):
        return f"entries, each a section with a name and a source, {ENTRY}"
    count = "any number of values" if types[-1] is Ellipsis else f"{len(types)} values"
    return f"{count}, each {EXPECTED['string_type' if types[0] is str else 'int_type']}"


def expected_range(field: FieldInfo, item: int | str | None) -> str:
    """All bounds of a number, or of a list's numbers."""
    if item is not None:
        (field,) = get_args(field.annotation)[0].__metadata__
    limits = [
        f"{word} {getattr(limit, name)}"
        for limit in field.metadata
        for name, word in BOUNDS.items()
        if hasattr(limit, name)
    ]
    return " and ".join(limits)
