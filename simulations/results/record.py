"""What every record of a result has in common: frozen, nothing unknown, never NaN.

Files are JSON without NaN; an infinite epsilon is the string "Infinity".
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 3
"""Of rows and summaries. A run folder of another version is refused."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# Infinite where nothing is promised; NaN is not at least 0 and so is refused here as well.
Epsilon = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """A frozen piece of a result: unknown fields are refused, NaN is never written."""

    # As strings, since JSON has no infinity, and a null would read as a figure not reached.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
