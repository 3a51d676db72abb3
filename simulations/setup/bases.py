"""The frozen base of a run: read from a file, made from synthetic speakers, or taught further."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedspeech.corpora.partition import utterances_of
from fedspeech.errors import ScenarioError
from fedspeech.models.base import Base
from fedspeech.tasks.asr import Asr
from fedspeech.tasks.kws import Kws
from simulations.scenario.corpora import TranscribedCorpus
from simulations.scenario.schema import Scenario
from simulations.setup.sentences import long_sentences
from simulations.setup.speakers import SpeakerSplit

BASE_SEED = 0  # of the bases made on the way: a run's seed draws phones, never the base
TASKS: Mapping[str, type[Kws] | type[Asr]] = {"kws": Kws, "asr": Asr}
"""By the word of scenarios: the two tasks that ship."""
MADE = "synthetic"  # base.source of a base that is made on the way
TUNED = "tuned"  # and of the shipped one that public speakers teach further


def layout_of(scenario: Scenario) -> Base:
    """A base with the sizes and the front end of the one that a scenario will have.

    It is the file that the scenario names. One that is made, or taught further, has the layout of
    the one that ships.

    Raises:
      ScenarioError: if it cannot be read.
    """
    source = scenario.base.source
    ships = source in ("shipped", MADE, TUNED)
    path = TASKS[scenario.task].shipped_base() if ships else Path(source)
    try:
        base = Base.load(path, scenario.base.sha256 or None if source != MADE else None)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"base.source: {error}") from error
    return _cut_for(scenario, base)


def base_of(scenario: Scenario, voices: SpeakerSplit, layout: Base, cache: Path) -> Base:
    """The base that a scenario names, made or taught further where it says so.

    Args:
      scenario: whose.
      voices: who speaks in it.
      layout: of `layout_of`.
      cache: where bases are kept by everything that their bytes depend on.
    """
    if scenario.base.source == MADE:
        made = voices.task.synthetic_base(seed=BASE_SEED, cache=cache, lexicon=scenario.lexicon)
        return _cut_for(scenario, made)
    if scenario.base.source == TUNED:
        clips = utterances_of(voices.partition.public)
        return voices.task.taught_base(layout, voices.corpus, clips, seed=BASE_SEED, cache=cache)
    return layout


def _cut_for(scenario: Scenario, base: Base) -> Base:
    """The base with clips as long as the corpus's sentences."""
    return long_sentences(base) if isinstance(scenario.corpus, TranscribedCorpus) else base
