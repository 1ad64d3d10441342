"""Typed JSON documents: what crosses a package border, a file or the command line as keys and values."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """A frozen JSON object with typed fields; keys that it does not name are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def to_dict(self) -> dict[str, Any]:
        """The document as plain JSON values: the keys that it was given, no others."""
        return self.model_dump(mode="json", exclude_unset=True)

    def __str__(self) -> str:
        return repr(self)
