"""The embedded corpus: synthetic speakers, whose clips are synthesized on demand.

    corpus = SyntheticCorpus(pretraining_spec(DEFAULT_TARGETS, seed=1, num_public=100))
    corpus.waveforms(corpus.utterances[:100])          # (100, 16000) float32

Nothing is stored: an utterance's fingerprint is the hash of everything that determines it, and its
waveform depends on these alone, in every run and for any number of workers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import DEVICE_KINDS, Device, apply_devices, draw_device
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import SILENCE, Skipped, Speaker, Utterance
from fedspeech.limits import NotNegative, WholeNumber, check_limits
from fedspeech.seeds import canonical, stream
from fedspeech.synthesis.formants import SYNTHESISER_VERSION, sentences, word_clips
from fedspeech.synthesis.grammar import Grammar
from fedspeech.synthesis.lexicon import (
    HELD_OUT_WORDS,
    UNKNOWN_WORDS,
    pronunciation,
    sentence_pronunciation,
)
from fedspeech.synthesis.phonemes import word_segments
from fedspeech.synthesis.render_plan import Take
from fedspeech.synthesis.voices import ACCENTS, Spread, Voice, draw_voice

_CHUNK_CLIPS = 96
PRETRAINING_ACCENT = "plain"
_UNHEARD = tuple(name for name in ACCENTS if name != PRETRAINING_ACCENT)


def accent_shares(new: float) -> tuple[tuple[str, float], ...]:
    """Shares of accents where a share `new`, in equal parts, has no pre-training speakers."""
    return (PRETRAINING_ACCENT, 1 - new), *((name, new / len(_UNHEARD)) for name in _UNHEARD)


@dataclass(frozen=True, kw_only=True)
class SpeakerGroup:
    """Speakers of one role, and what each of them says.

    Attributes:
      name: the role, "public", "validation", "federated" or "held_out"; prefix of speaker ids.
      words: target words, spoken in turn.
      utterances_per_word: clips of target words per speaker, divided by the number of words.
      accents: (accent, share) pairs; a speaker's accent is drawn in these proportions.
      unknown_words: other words, of which each speaker says `num_unknown` in turn.
      num_unknown: clips of other words per speaker.
      num_silence: clips without speech per speaker.
      near_misses: names in the lexicon of what almost is a target (`synthesis.near_misses.named`),
        of which each speaker says `num_near_misses` in turn.
      num_near_misses: clips of near misses per speaker.
      skew: standard deviation over speakers of the logarithm of the number of target clips; the
        mean number does not depend on it.
      min_clips: no speaker has fewer target clips.
      devices: classes, which are keys of `DEVICE_KINDS`.
      grammar: distribution of sentences; None for a group that says single words.

    Raises:
      ValueError: if a number or name cannot be used.
    """

    name: str
    num_speakers: WholeNumber
    words: tuple[str, ...]
    utterances_per_word: NotNegative
    accents: tuple[tuple[str, float], ...] = (("plain", 1.0),)
    unknown_words: tuple[str, ...] = ()
    num_unknown: WholeNumber = 0
    num_silence: WholeNumber = 0
    skew: NotNegative = 0.0
    min_clips: WholeNumber = 1
    devices: tuple[str, ...] = tuple(DEVICE_KINDS)
    grammar: Grammar | None = None
    num_sentences: WholeNumber = 0
    # Left out of the text by which bases are cached: the speakers of a base say none.
    near_misses: tuple[str, ...] = field(default=(), repr=False)
    num_near_misses: WholeNumber = field(default=0, repr=False)

    def __post_init__(self) -> None:
        """Checks numbers and names."""
        check_limits(self)
        if not self.name or "-" in self.name or "/" in self.name:
            raise ValueError(f"a group's name must be free of '-' and '/', got {self.name!r}")
        for accent, share in self.accents:
            if accent not in ACCENTS or not share >= 0:
                raise ValueError(
                    f"accents must be shares of {tuple(ACCENTS)}, got {accent!r}: {share}"
                )
        if not sum(share for _, share in self.accents) > 0:
            raise ValueError(f"shares of accents must not all be 0, got {self.accents}")
        if not self.devices or set(self.devices) - set(DEVICE_KINDS):
            raise ValueError(f"devices must be among {tuple(DEVICE_KINDS)}, got {self.devices}")
        if self.num_unknown and not self.unknown_words:
            raise ValueError(f"num_unknown={self.num_unknown} needs unknown_words, got none")
        if self.num_near_misses and not self.near_misses:
            raise ValueError(f"num_near_misses={self.num_near_misses} needs near_misses, got none")
        if (self.grammar is None) != (self.num_sentences == 0):
            raise ValueError(
                "a grammar and num_sentences belong together, got "
                f"num_sentences={self.num_sentences}, grammar={self.grammar is not None}"
            )
        if self.grammar and (self.words or self.unknown_words or self.num_silence):
            raise ValueError(f"group {self.name!r} must say either words or sentences")


@dataclass(frozen=True, kw_only=True)
class SyntheticSpec:
    """All that determines a synthetic corpus.

    Attributes:
      lexicon: further words and their ARPAbet strings.
      held_out_words: words that only the groups "validation" and "held_out" may say.
      frontend: clip length and rate.

    Raises:
      ValueError: if groups clash, a word has no pronunciation, a held-out word would be trained on,
        or the rate is not the synthesizer's.
    """

    seed: int
    groups: tuple[SpeakerGroup, ...]
    lexicon: tuple[tuple[str, str], ...] = ()
    held_out_words: tuple[str, ...] = ()
    spread: Spread = field(default_factory=Spread)
    frontend: FrontendSpec = field(default_factory=FrontendSpec)

    def __post_init__(self) -> None:
        """Checks that the parts fit together."""
        names = [group.name for group in self.groups]
        if len(set(names)) != len(names):
            raise ValueError(f"groups must have different names, got {names}")
        if len({group.grammar is None for group in self.groups}) > 1:
            raise ValueError("either every group says sentences or none does")
        if self.frontend.rate_hz != 16_000:
            raise ValueError(
                f"the synthesizer speaks at 16000 Hz, got rate_hz={self.frontend.rate_hz}"
            )
        extra = dict(self.lexicon)
        for group in self.groups:
            named = (*group.grammar.people, *group.grammar.places) if group.grammar else ()
            for word in (*group.words, *group.unknown_words, *group.near_misses, *named):
                pronunciation(word, extra)
            leaked = set(self.held_out_words) & {*group.words, *group.unknown_words}
            if leaked and group.name not in ("validation", "held_out"):
                raise ValueError(
                    f"held-out words must not be trained on, got {sorted(leaked)} in {group.name!r}"
                )


def other_words(targets: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the words that may train as unknown, and those that no model is trained on."""
    return (
        tuple(word for word in UNKNOWN_WORDS if word not in targets),
        tuple(word for word in HELD_OUT_WORDS if word not in targets),
    )


def pretraining_spec(
    targets: Sequence[str],
    *,
    seed: int,
    num_public: int,
    num_validation: int = 0,
    lexicon: Mapping[str, str] | None = None,
) -> SyntheticSpec:
    """The speakers of a base: public ones of one accent, and validation speakers of all accents."""
    words = tuple(targets)
    known, held_out = other_words(words)
    public = SpeakerGroup(
        name="public",
        num_speakers=num_public,
        words=words,
        utterances_per_word=4,
        unknown_words=known,
        num_unknown=16,
        num_silence=4,
    )
    validation = replace(
        public,
        name="validation",
        num_speakers=num_validation,
        accents=tuple((accent, 0.2) for accent in ACCENTS),
        utterances_per_word=3,
        unknown_words=(*held_out, *known),
        num_unknown=12,
    )
    return SyntheticSpec(
        seed=seed,
        groups=(public, validation),
        lexicon=tuple((lexicon or {}).items()),
        held_out_words=held_out,
    )


@dataclass(frozen=True)
class _Person:
    """All that determines the clips of a speaker.

    Attributes:
      digest: SHA-256 of voice, device and the synthesizer's version.
      words: said by the speaker, in order; repetitions are further takes.
      contacts: names in the speaker's own list; empty where single words are said.
    """

    voice: Voice
    device: Device
    digest: bytes
    words: tuple[str, ...] = field(repr=False)
    contacts: tuple[str, ...] = field(default=(), repr=False)


class SyntheticCorpus:
    """A `Corpus` of synthetic speakers."""

    name = "synthetic"
    license = "CC0 / generated"
    skipped: tuple[Skipped, ...] = ()

    def __init__(self, spec: SyntheticSpec) -> None:
        """Draws the speakers; nothing is synthesized yet."""
        self.spec = spec
        self._people = {
            f"{group.name}-{index:06d}": _draw_person(spec, group, index)
            for group in spec.groups
            for index in range(group.num_speakers)
        }
        self._lexicon = dict(spec.lexicon)
        words = {
            word
            for group in spec.groups
            for word in (*group.words, *group.unknown_words, *group.near_misses)
        }
        self._phones: dict[str, tuple[tuple[str, ...], ...]] = {
            word: (pronunciation(word, self._lexicon),) for word in words
        }
        self._phones[SILENCE] = ()
        self._sentences = any(group.grammar for group in spec.groups)

    @cached_property
    def speakers(self) -> Mapping[str, Speaker]:
        """Speakers by id, with segments accent, sex, age_band, device and noise."""
        return {
            speaker_id: Speaker(
                speaker_id,
                {
                    "accent": person.voice.accent,
                    "sex": person.voice.sex,
                    "age_band": person.voice.age_band,
                    "device": person.device.kind,
                    "noise": person.device.noise_level,
                },
            )
            for speaker_id, person in self._people.items()
        }

    @cached_property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Speaker ids by group."""
        members: dict[str, list[str]] = {group.name: [] for group in self.spec.groups}
        for speaker_id in self._people:
            members[speaker_id.split("-")[0]].append(speaker_id)
        return {name: tuple(ids) for name, ids in members.items()}

    def contacts(self, speaker_id: str) -> tuple[str, ...]:
        """Names in a speaker's own list, which never leaves the phone."""
        return self._people[speaker_id].contacts

    @cached_property
    def utterances(self) -> tuple[Utterance, ...]:
        """Every utterance, by speaker; ids are "speaker/word/take", of sentences "speaker/take"."""
        listed = []
        for speaker_id, person in self._people.items():
            if self._sentences:
                listed += [
                    Utterance(f"{speaker_id}/{take}", speaker_id, sentence)
                    for take, sentence in enumerate(person.words)
                ]
                continue
            takes: dict[str, int] = {}
            for word in person.words:
                take = takes[word] = takes.get(word, -1) + 1
                listed.append(Utterance(f"{speaker_id}/{word}/{take}", speaker_id, word))
        return tuple(listed)

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of version, voice, device, the word in this accent, take and clip length."""
        return self._digest(utterance).hex()

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Synthesizes clips, shape (n, clip_samples), full scale 1, in about 1 ms of a core each.

        Raises:
          ValueError: if an utterance is of another corpus.
        """
        num_samples = self.spec.frontend.clip_samples
        clips = np.empty((len(utterances), num_samples), dtype=np.float32)
        # Clips of one speaker share a device, whose response is then made once.
        order = sorted(range(len(utterances)), key=lambda row: utterances[row].speaker_id)
        for start in range(0, len(order), _CHUNK_CLIPS):
            rows = order[start : start + _CHUNK_CLIPS]
            takes, devices = zip(*(self.recipe(utterances[row]) for row in rows), strict=True)
            # Not the takes' own seeds, so that noise and speech are drawn independently.
            seeds = [take.seed ^ 0x6E6F697365 for take in takes]
            if not self._sentences:
                clips[rows] = apply_devices(word_clips(takes, num_samples), devices, seeds)
                continue
            spoken = sentences(takes, num_samples)
            padded = np.stack([np.pad(s, (0, num_samples - len(s))) for s in spoken])
            clips[rows] = apply_devices(padded, devices, seeds)
            for row, sentence in zip(rows, spoken, strict=True):
                clips[row, len(sentence) :] = 0  # nothing was recorded
        return clips

    def recipe(self, utterance: Utterance) -> tuple[Take, Device]:
        """Returns the take that the speaker says, and the device that records it.

        Raises:
          ValueError: if the utterance is of another corpus.
        """
        seed = int.from_bytes(self._digest(utterance)[:8], "big")
        person = self._people[utterance.speaker_id]
        take = Take(voice=person.voice, words=self._spoken(utterance), seed=seed)
        return take, person.device

    def _spoken(self, utterance: Utterance) -> tuple[tuple[str, ...], ...]:
        """Dictionary phones of each word."""
        if self._sentences:
            return sentence_pronunciation(utterance.word, self._lexicon)
        return self._phones[utterance.word]

    def _digest(self, utterance: Utterance) -> bytes:
        """SHA-256 of all that determines the waveform; the take's seed derives from it."""
        person = self._people.get(utterance.speaker_id)
        if person is None or utterance.word not in (
            person.words if self._sentences else self._phones
        ):
            raise ValueError(f"no such utterance in this corpus: {utterance.utterance_id!r}")
        take = utterance.utterance_id.rsplit("/", 1)[1]
        spoken = b"".join(
            _segments_digest(person.voice.accent, phones) for phones in self._spoken(utterance)
        )
        clip_samples = self.spec.frontend.clip_samples
        return hashlib.sha256(
            canonical(person.digest, utterance.word, spoken, take, clip_samples)
        ).digest()


@lru_cache(maxsize=4096)
def _segments_digest(accent: str, phones: tuple[str, ...]) -> bytes:
    """SHA-256 of a word's segments, which depends on the tables of phones and accents."""
    return hashlib.sha256(word_segments(accent, phones).tobytes()).digest()


def _draw_person(spec: SyntheticSpec, group: SpeakerGroup, index: int) -> _Person:
    """Draws one speaker; independent of how many others there are."""
    rng = stream(spec.seed, "speaker", group.name, index)
    bounds = np.cumsum([share for _, share in group.accents])
    accent = group.accents[np.searchsorted(bounds, rng.random() * bounds[-1], side="right")][0]
    voice = draw_voice(rng, accent, spec.spread)
    device = draw_device(rng, group.devices[rng.integers(len(group.devices))])
    recipe = f"{SYNTHESISER_VERSION} {voice} {device}"
    digest = hashlib.sha256(recipe.encode()).digest()
    if group.grammar is None:
        return _Person(voice, device, digest, _script(group, rng))
    contacts = group.grammar.draw_contacts(rng)
    said = [group.grammar.draw_sentence(rng, contacts) for _ in range(group.num_sentences)]
    return _Person(voice, device, digest, tuple(said), contacts)


def _script(group: SpeakerGroup, rng: np.random.Generator) -> tuple[str, ...]:
    """The words of a speaker: targets in turn, then other words in turn, then silence."""
    mean = group.utterances_per_word * len(group.words)
    # The mean of a log-normal is exp(mu + sigma^2 / 2).
    factor = math.exp(group.skew * rng.standard_normal() - group.skew**2 / 2)
    num_targets = max(group.min_clips, round(mean * factor)) if mean else 0
    return (
        *_in_turn(group.words, num_targets, rng),
        *_in_turn(group.unknown_words, group.num_unknown, rng),
        *([SILENCE] * group.num_silence),
        # Last, so that whoever hears none says what they said before.
        *_in_turn(group.near_misses, group.num_near_misses, rng),
    )


def _in_turn(words: tuple[str, ...], count: int, rng: np.random.Generator) -> list[str]:
    """Cycles through the words in one random order until there are `count`."""
    if not count:
        return []
    order = rng.permutation(len(words))
    return [words[order[place % len(words)]] for place in range(count)]
