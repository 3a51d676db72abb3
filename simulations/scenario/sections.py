"""What every section of a scenario is: frozen, closed, and described key by key."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Frozen, and closed to keys it does not know.

    The description of a field is its meaning and unit: `fedspeech scenarios show` and
    docs/scenario.md print it, so it is written nowhere else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
