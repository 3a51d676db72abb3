"""What was said leaves no phone in words: not in messages, logs, traces, run folders or reports."""

import dataclasses
import logging
import re
import traceback
import typing

import numpy as np
import pytest
from tiny_experiment import cache

from fedspeech import messages
from fedspeech.corpora.corpus import Alphabet, Utterance
from fedspeech.corpora.layouts import open_transcribed
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec
from fedspeech.errors import FedspeechError, ProtocolAbort
from fedspeech.job import Job
from fedspeech.models.base import Base, sentence_base_path
from fedspeech.models.decoding import BeamDecoder, BigramLanguageModel
from fedspeech.synthesis.grammar import Grammar
from fedspeech.tasks import asr_evaluation
from fedspeech.training import cohort
from simulations.results.run_folder import read
from simulations.run import preparing, runner
from simulations.scenario.reading import read_scenario

SECRETS = ("xylophonist", "quetzalcoatl", "zugzwang", "kerfuffle")
TINY = (
    "corpus.public_speakers=2", "corpus.validation_speakers=1", "corpus.federated_speakers=6",
    "base.source=shipped", "privacy.rounds=2", "privacy.participation_probability=1.0",
    "privacy.dropout_rate=0.0", "personalization.shots=[1,2]", "personalization.headline_shots=2",
    "training.max_examples=4", "training.negatives=1", "personalization.negatives=1",
    "decoding.beam_width=2", "decoding.examples=8", "simulation.shards=1",
    "privacy.secure_aggregation=ideal",
)  # fmt: skip


@pytest.fixture
def recordings(tmp_path):
    """Eleven people who say nothing but secrets, as noise in the base's own features."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    rng = np.random.default_rng(1)
    lines = ["clip_id,speaker,first_frame,frames,transcript"]
    for speaker in range(11):
        for clip in range(5):
            said = " ".join(rng.choice(SECRETS, 2))
            lines.append(f"c{speaker}-{clip},s{speaker},{40 * len(lines)},120,{said}")
    mfcc = rng.normal(0, 1, (40 * len(lines) + 120, 13))
    np.savez(folder / "features.npz", mfcc=mfcc.astype(np.float32))
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def scenario(recordings):
    return read_scenario("asr-an4", (*TINY, f'corpus.path="{recordings}"'))


def simulate(recordings, out):
    return runner.simulate(scenario(recordings), out=out, workers=1, cache=cache())


def secrets_in(data):
    """Which secrets stand in some bytes, in whatever case."""
    return [secret for secret in SECRETS if secret.encode() in data.lower()]


def everything_in(folder):
    """Names and contents of all files below a folder."""
    for path in folder.rglob("*"):
        yield path.name.encode()
        if path.is_file():
            yield path.read_bytes()


@pytest.mark.slow
def test_a_run_on_secrets_tells_nobody(recordings, tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    run = simulate(recordings, tmp_path / "run")
    report = runner.write_report(run)
    summary = read(run).summary
    assert summary.status == "complete"
    assert (
        summary.section("error").by_model()["base"].counted == 2 * 3 * 2
    )  # two phones, three sentences of two words each
    assert not [
        texts for section in summary.sections for texts in section.texts
    ]  # people said these sentences
    assert report.stat().st_size > 100_000
    shown = capfd.readouterr()
    for data in (*everything_in(run), shown.out.encode(), shown.err.encode(), caplog.text.encode()):
        assert secrets_in(data) == []
    assert secrets_in((recordings / "metadata.csv").read_bytes())  # the search finds what is there


@pytest.mark.slow
@pytest.mark.parametrize("where", ["training", "judging"])
def test_a_run_that_breaks_tells_nobody_either(recordings, tmp_path, capfd, monkeypatch, where):
    def broken(*_, **__):
        raise RuntimeError("broken on purpose")

    if where == "training":
        monkeypatch.setattr(cohort, "pad_block", broken)
    else:
        monkeypatch.setattr(asr_evaluation, "rate_metric", broken)
    with pytest.raises((FedspeechError, RuntimeError)) as caught:
        simulate(recordings, tmp_path / "run")
    trace = "".join(traceback.format_exception(caught.value))
    shown = capfd.readouterr()
    assert re.search("broken on purpose|a RuntimeError in this shard", trace + shown.out)
    for data in (trace.encode(), shown.out.encode(), shown.err.encode()):
        assert secrets_in(data) == []
    for data in everything_in(tmp_path / "run"):
        assert secrets_in(data) == []


def test_no_message_has_a_place_for_words():
    """Whole numbers, bytes of fixed length and arrays of numbers; no text, nothing open-ended."""
    found = 0
    for kind in vars(messages).values():
        if not dataclasses.is_dataclass(kind) or kind.__module__ != messages.__name__:
            continue
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            found += 1
            for loose in ("str", "object", "dict[", "Mapping["):
                assert loose not in str(hints[field.name]), (kind.__name__, field.name)
    assert found > 20


def test_characters_do_not_fit_where_a_message_wants_a_vector():
    labels = Alphabet().encode(["call arun"])
    with pytest.raises(ProtocolAbort, match="total must be a one-dimensional uint32 array"):
        messages.ProtectedUpdate(
            key=messages.RoundKey(round=0, attempt=0, round_id=bytes(16), context=bytes(32)),
            reporting=np.arange(3),
            total=labels[0],
        )


def test_what_holds_words_does_not_show_them(recordings):
    secret = SECRETS[0]
    base = Base.load(sentence_base_path())
    corpus = open_transcribed(recordings, base.built_in.frontend)
    prior = BigramLanguageModel.of([secret])
    group = SpeakerGroup(
        name="held_out", num_speakers=1, words=(), utterances_per_word=0, num_sentences=2,
        grammar=Grammar(people=(secret,), places=(secret,), contacts=1),
    )  # fmt: skip
    spec = SyntheticSpec(seed=1, groups=(group,), lexicon=((secret, "Z AY1"),))
    people = SyntheticCorpus(spec)
    held = (
        Utterance("id", "speaker", secret), corpus, *corpus.utterances[:5], prior, people,
        BeamDecoder(Alphabet(), prior, {"people": (secret,)}), *people.utterances,
        people._people["held_out-000000"], *people.speakers.values(),
    )  # fmt: skip
    assert [repr(value) for value in held if secrets_in(repr(value).encode())] == []
    assert set(people.contacts("held_out-000000")) == {secret}


@pytest.mark.parametrize("transcript", [f"{SECRETS[0]} 42", SECRETS[0] * 20])
def test_an_error_over_a_transcript_does_not_show_it(transcript):
    with pytest.raises(ValueError, match="a transcript has at most") as caught:
        Alphabet().encode([transcript])
    assert not secrets_in(str(caught.value).encode())


@pytest.mark.slow
def test_a_job_holds_no_words(recordings):
    built = preparing.build_experiment(
        scenario(recordings),
        cache=cache(),
        simulation_only=None,
        workers=1,
        progress=lambda *_: None,
    )
    assert isinstance(built.job, Job)
    assert not secrets_in(repr((built.job, built.held_out[0], built.partition.federated)).encode())
