"""What every section of params.yaml is: frozen, strict, complete."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

MAX_INT = 2**63 - 1  # what NumPy and torch take

Side = Annotated[int, Field(ge=16, le=4096)]  # pixels


class Section(BaseModel):
    """A section of params.yaml: frozen, without unknown keys, every value of the stated type.

    An integer serves as a float, nothing else is converted. There are no defaults: params.yaml
    states every value, so that it alone is the experiment. A field's `description` is what the
    documentation says of the parameter. Lists become tuples, which needs `strict=False`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def check_integers(cls, value: Any) -> Any:
        """Refuse integers that NumPy and torch cannot hold."""
        for number in value if isinstance(value, list) else [value]:
            if type(number) is int and abs(number) > MAX_INT:
                raise PydanticCustomError("too_large", "a number of at most 63 bits")
        return value
