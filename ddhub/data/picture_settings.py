"""The keys of recipe and manifest for reading pictures."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer

from ddhub.base.schema import Strict


def _rising(value: list[float]) -> list[float]:
    if value[0] >= value[1]:
        raise ValueError("black comes first, and white is larger: [0, 65535]")
    return value


Pixel = Annotated[float, Field(ge=-1e30, le=1e30)]  # float32 holds such values and their differences
Range = Annotated[list[Pixel], Field(min_length=2, max_length=2), AfterValidator(_rising)]


class PictureSettings(Strict):
    """How to read pictures whose files leave a choice (docs/pictures.md). Unset keys are not written."""

    range: Range | None = Field(
        default=None, description="Values of black and white in pictures with more than 8 bits. null finds them."
    )
    background: str | None = Field(
        default=None, description="Colour behind transparent places: a name or #rrggbb. null is white."
    )
    skip_damaged: bool = Field(default=False, description="Leave out pictures that cannot be decoded, and count them.")

    @model_serializer(mode="wrap")
    def _without_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unset = {key for key in PictureSettings.model_fields if not getattr(self, key)}
        return {key: value for key, value in dump(self).items() if key not in unset}
