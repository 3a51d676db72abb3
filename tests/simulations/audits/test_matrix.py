"""The matrix of a tiny scenario: what is shown to whom, what is kept, and the page."""

import dataclasses
import math

import numpy as np
import pytest
from tiny_experiment import cache, tiny_scenario

from fedspeech.audits.attack import Guess
from fedspeech.errors import ArgumentRefused
from fedspeech.extras import lacking
from simulations.audits import auditing, personal_files, subject
from simulations.audits.page import best, in_short, render, where_at_chance
from simulations.audits.results import Attacked
from simulations.progress import RunProgress

pytestmark = pytest.mark.slow
MORE = "corpus.federated_phones=24"  # of whom intervals can say something


@dataclasses.dataclass(frozen=True)
class Norms:
    """An attack that needs no training: it believes those who look like what they would send."""

    name: str = "inner product"
    secret: str = "speaker"
    observers: tuple = ("server", "reader", "cohort_member", "recipient")
    auxiliary: str = "exact"
    knowledge: str = "the very clips of every candidate"
    asked: list = dataclasses.field(default_factory=list, hash=False, compare=False)

    def guess(self, transcript, knowledge, rng):
        self.asked.append(transcript.observer)
        rows = []
        for seen, place in zip(transcript.observations, transcript.observed_in, strict=True):
            model = transcript.rounds[place].sent
            clips = [who.clips.joined(knowledge.background) for who in knowledge.candidates]
            sent = knowledge.contributions(clips, model, [rng] * len(clips))
            rows.append([float(np.dot(seen, one) / np.linalg.norm(one)) for one in sent])
        return Guess(scores=np.array(rows))


@pytest.fixture(scope="module", autouse=True)
def few_public_speakers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "MOST_PUBLIC", 4)
        patch.setattr(personal_files, "FILES", 1)
        yield


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder, attack = tmp_path_factory.mktemp("audit"), Norms()
    found = auditing.attack(
        tiny_scenario(MORE), [attack], folder, cache=cache(), workers=1, progress=RunProgress()
    )
    return folder, attack, found


def test_every_protection_and_observer_has_its_place(audited):
    _, _, found = audited
    shown = {(cell.observer, protection) for cell in found.cells for protection in cell.protections}
    assert len(shown) == 4 * 4
    assert 2 <= found.absent <= found.candidates - 2
    sums = next(cell for cell in found.cells if cell.protections == ("secure aggregation",))
    singles = next(cell for cell in found.cells if cell.protections == ("nothing",))
    assert sums.observations == 2
    assert singles.observations > 10


def test_an_unprotected_server_learns_who_it_is(audited):
    _, _, found = audited
    cell = best(found, "server", "speaker", "nothing")
    assert cell.metrics[0].value < 0.3
    assert cell.succeeded
    assert next(in_short(found)).startswith("Under nothing: whose contribution it is")


def test_what_is_kept_is_not_attacked_again_and_another_audit_is_refused(audited):
    folder, attack, found = audited
    before = len(attack.asked)
    again = auditing.attack(
        tiny_scenario(MORE), [attack], folder, cache=cache(), workers=1, progress=RunProgress()
    )
    assert again == found
    assert len(attack.asked) == before
    with pytest.raises(ArgumentRefused, match="another plan"):
        auditing.attack(
            tiny_scenario(MORE, "privacy.noise_multiplier=2.0"), [attack], folder, cache=cache(),
            workers=1, progress=RunProgress(),
        )  # fmt: skip


def test_results_and_page_say_the_same(audited):
    folder, _, found = audited
    assert Attacked.model_validate_json((folder / "attacks.json").read_bytes()) == found
    page = (folder / "audit.html").read_text("utf-8")
    assert page == render(found)
    assert "is not privacy" in page
    assert "ε promised" in page
    for curve in found.curves:
        assert list(where_at_chance(curve))


def test_nothing_is_promised_to_a_phone_whose_vector_is_read_alone(audited):
    _, _, found = audited
    epsilon = {(one.observer, one.protection): one.epsilon for one in found.promises}
    assert math.isinf(epsilon["server", "DP"])
    assert math.isinf(epsilon["server", "secure aggregation"])
    assert math.isinf(epsilon["recipient", "both"])
    assert epsilon["server", "both"] < math.inf
    assert epsilon["reader", "DP"] == epsilon["reader", "both"] < math.inf


def test_a_personalized_adapter_is_read_out_of_its_file(audited):
    _, _, found = audited
    if lacking("export"):
        pytest.skip("nothing is exported without the extra")
    assert found.files.startswith("1 of these adapters were exported")
    assert "1 of them are what was trained, bit for bit" in found.files


def test_messages_of_a_kind_are_counted(audited):
    _, _, found = audited
    assert {one.kind for one in found.traffic} >= {"train.masked", "query.unmask"}
