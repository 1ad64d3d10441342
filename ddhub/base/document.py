"""Typed JSON documents: keys and values that cross a package border, a file or the command line."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """A frozen JSON object with typed fields. Unknown keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def to_dict(self) -> dict[str, Any]:
        """The document as plain JSON values, with only the keys that were set."""
        return self.model_dump(mode="json", exclude_unset=True)

    def __str__(self) -> str:
        return repr(self)
