"""What is promised of a run, as result files have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

from fedspeech.privacy.examples import ExampleGuarantee
from fedspeech.privacy.guarantee import Guarantee
from simulations.results.record import Count, Epsilon, Record


def _stored(kind: type[Guarantee] | type[ExampleGuarantee]) -> PlainValidator:
    """Reads a guarantee from the record that it makes of itself, unless it is one."""

    def read(value: object) -> object:
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"a guarantee is a table of figures, got {value!r}")
        return kind.from_record(value)

    return PlainValidator(read)


StoredGuarantee = Annotated[Guarantee, _stored(Guarantee), PlainSerializer(Guarantee.to_record)]
StoredExamples = Annotated[
    ExampleGuarantee, _stored(ExampleGuarantee), PlainSerializer(ExampleGuarantee.to_record)
]


class Account(Record):
    """What is promised, and what only a ledger knows of it.

    Attributes:
      guarantee: both epsilons with everything without which an epsilon says nothing.
      noise_notice: `NoiseEntropy.notice`: set when the noise can be reproduced from the seed.
      runs_charged: runs on this population that were charged, this one included.
      epsilon_budget: where `guarantee.epsilon_release` must stop; None: no budget.
    """

    guarantee: StoredGuarantee
    noise_notice: str | None
    runs_charged: Count = 1
    epsilon_budget: Epsilon | None = None

    def account(self) -> Account:
        """Returns the account alone, also from a row or a summary, which carry one."""
        return Account(**{name: getattr(self, name) for name in Account.model_fields})
