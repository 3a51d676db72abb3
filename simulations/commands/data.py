"""`fedspeech data`: corpora that fedspeech reads, and what a folder of recordings is good for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import fedspeech as fs
from simulations.console import Console

if TYPE_CHECKING:
    from simulations.setup.folder_check import FolderCheck

_FEW_PHONES = 1_000
_EXAMPLES = 3  # recordings shown of those left out under one rule


def list_known() -> None:
    """List the corpora that fedspeech reads, with license, size and layout."""
    render_list(fs.known_corpora(), Console())


def check(
    folder: Annotated[Path, typer.Argument(help="A folder of recordings.")],
    max_unusable_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of unusable rows above which a table is refused (default: a fifth), as "
            "corpus.max_unusable_share of a scenario.",
        ),
    ] = None,
) -> None:
    """Read every recording in a folder and say what it is good for and what was left out."""
    from fedspeech.corpora.records import MAX_UNUSABLE_SHARE

    share = MAX_UNUSABLE_SHARE if max_unusable_share is None else max_unusable_share
    render_check(fs.check_folder(folder, max_unusable_share=share), Console())


def render_list(known: fs.Records, console: Console) -> None:
    """Prints corpora with license, size, layout and source."""
    for one in known:
        console.print(
            f"{one['name']} ({one['license']})\n  {one['size']}\n  layout: {one['layout']}\n"
            f"  from: {one['source']}",
            soft_wrap=True,
        )
    console.print("To look at a folder: fedspeech data check DIR")


def render_check(check: FolderCheck, console: Console) -> None:
    """Prints a check as plain lines, the verdict last."""
    for line in _lines(check):
        console.print(line, soft_wrap=True)


def _lines(check: FolderCheck) -> Iterable[str]:
    from fedspeech.audio.channel import SPEECH_RMS
    from fedspeech.corpora.partition import NO_PEOPLE
    from fedspeech.corpora.records import NOBODY
    from fedspeech.corpora.written import listed
    from simulations.setup.folder_check import LOWEST_LEVEL_DB, SENTENCES
    from simulations.setup.recordings import ENOUGH_SPEAKERS

    corpus, tally = check.corpus, check.corpus.tally
    yield f"{check.folder}: {corpus.layout}, license {corpus.license}"
    yield (
        f"{_count(len(corpus.utterances), 'clip')}, {_count(check.speakers, 'speaker')}, "
        f"{_count(len(check.words), 'word')}, {_length(tally.seconds / 3600)}"
    )
    if check.sentences:
        yield f"  {check.sentences:,} of the clips are sentences"
    if check.silence:
        yield f"  {check.silence} of the clips are silence or noise"
    if nobody := sum(name.startswith(NOBODY) for name in corpus.speakers):
        yield (
            f"  {_count(nobody, 'recording')} of silence without a speaker: background noise of "
            "nobody, which is public and ships to every phone"
        )
    if tally.outside:
        yield (
            f"  {_count(tally.outside, 'recording')} outside the folder, by absolute paths, as "
            f"{corpus.layout} has them"
        )
    if tally.rates_hz:
        rates = (f"{n:,} at {rate / 1000:g} kHz" for rate, n in sorted(tally.rates_hz.items()))
        yield "recordings: " + ", ".join(rates)
        yield (
            f"  {tally.downmixed:,} mixed down to mono, {tally.padded:,} padded to a clip, "
            f"{tally.cut:,} cut to a clip"
        )
    if check.level_db is not None:
        median, low = (round(level) for level in check.level_db)
        yield (
            f"level of speech: {median:+d} dB from nominal in the median clip, {low:+d} dB in "
            f"the quietest tenth (nominal: root mean square {SPEECH_RMS:g} of full scale)"
        )
    if check.quiet:
        yield (
            f"  {check.quiet:.0%} of the clips lie more than {-LOWEST_LEVEL_DB:g} dB below "
            "nominal, where words are heard badly: record them louder, or raise their level first"
        )
    if tally.canceled:
        yield (
            f"  {_count(tally.canceled, 'recording')} with channels that cancel each other: of "
            "these the loudest channel is taken"
        )
    if any(rate < 16_000 for rate in tally.rates_hz):
        yield "  those below 16 kHz are resampled; above half their rate there is nothing to hear"
    if check.words:
        more = f", and {len(check.words) - 40} more" if len(check.words) > 40 else ""
        words = (f"{word} {count}" for word, count in check.words[:40])
        yield f"words: {listed(words)}{more}"
    if check.lexicon_lacks and not check.sentences:
        lacks = listed(check.lexicon_lacks[:20]) + (" ..." if check.lexicon_lacks[20:] else "")
        yield (
            f"  not in the lexicon, to be spelt in the scenario if they are targets and no --base "
            f"of recordings is named: {lacks}"
        )
    if check.speakers:
        yield "clips per speaker: " + ", ".join(
            f"{_count(number, 'speaker')} with {_bracket(least, most)}"
            for least, most, number in check.clips_per_speaker
            if number
        )
    yield from corpus.persons.doubtful()
    for note in (*corpus.notes, *(() if corpus.one_id_one_person else (NO_PEOPLE,))):
        yield f"  note: {note}"
    if official := Counter(corpus.official.get(name) for name in corpus.speakers):
        named = [part for part in ("training", "validation", "testing") if official[part]]
        if named:
            parts = ", ".join(f"{official[part]} {part}" for part in named)
            yield f"official lists: {parts} speakers"
    if check.segments:
        values = ", ".join(f"{name} ({_count(found, 'value')})" for name, found in check.segments)
        yield f"segments: {values}"
    if unused := corpus.unused_columns:
        yield f"  no segment, since it changes within a speaker: {', '.join(unused)}"
    yield f"skipped: {sum(map(len, check.skipped.values()))}"
    for rule, skipped in check.skipped.items():
        yield f"  {len(skipped)} x {rule}"
        for skip in skipped[:_EXAMPLES]:
            yield f"      {skip.where}: {skip.reason.partition(': ')[2]}"
    if split := check.split:
        yield (
            f"real-commands can run on it: {_count(split.federated, 'phone')} would federate, "
            f"{split.held_out} would be held-out ({split.rule}), {split.public} public, "
            f"{split.validation} to choose by"
        )
        yield f"  target words: {listed(split.targets)}; judged by {split.non_words}"
        if split.federated < _FEW_PHONES:
            yield "  so few phones cannot buy a small epsilon: the report prints the one they get"
        command = f"fedspeech simulate --scenario real-commands --corpus {check.folder}"
        if set(split.targets) & set(check.lexicon_lacks) and check.speakers >= ENOUGH_SPEAKERS:
            yield "  the synthesizer cannot say these words, so begin with a base of recordings:"
            yield (
                f"  fedspeech pretrain --corpus {check.folder} --speakers {check.speakers // 2} "
                "--out public.safetensors"
            )
            command += " --base public.safetensors"
        yield f"  {command} {split.options}".rstrip()
    else:
        yield f"real-commands cannot run on it: {check.obstacle}"
    if check.sentences:
        yield f"  fedspeech simulate --scenario {SENTENCES} --corpus {check.folder}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _length(hours: float) -> str:
    return f"{hours:.2f} hours" if hours >= 0.1 else f"{60 * hours:.1f} minutes"


def _bracket(least: int, most: int | None) -> str:
    if most is None:
        return f"{least} or more"
    return str(least) if least == most else f"{least} to {most}"
