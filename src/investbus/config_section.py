"""What every part of the configuration is made of: a strict model, secrets with a twin in a file, and a few kinds of values."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import NoDecode

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


def split(value: Any) -> Any:
    """`a,b` from the environment is a list of two, and so is `["a", "b"]`."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


Text = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Text], NoDecode, BeforeValidator(split)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are mistakes, and it never changes after start."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    def secret(self, name: str) -> str | None:
        """The value of secret `name`, from its `_file` twin if that is set. Raises OSError if the file cannot be read."""
        if (path := getattr(self, f"{name}_file", None)) is not None:
            return Path(path).read_text(encoding="utf-8").strip()
        value: SecretStr | str | None = getattr(self, name)
        return value.get_secret_value() if isinstance(value, SecretStr) else value
