"""Every command of README and docs, as written: it can be read, and it runs.

By default each is read by the command line. `-m slow` runs those that take seconds, `-m soak` the
others, all in one folder that a reader of the documents would have made by then.
"""

import contextlib
import io
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from tiny_experiment import cache, tiny_scenario

from fedspeech.synthesis.lexicon import pronunciation
from simulations.cli import app, main
from simulations.run.runner import simulate
from simulations.scenario.reading import read_scenario
from simulations.scenario.writing import to_toml

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("FEDSPEECH_TEST_DATA", ROOT.parent / "shared" / "data"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STREAMING = "runs/A/export/model_streaming.tflite"
# What a document leaves to its reader.
LEFT_OPEN = {
    "DATA": str(DATA), "FILE": STREAMING, "RUN": "runs/A", "OUT": "out",
    "runs/tune-NAME-DATE/recommended.toml": "recommended.toml",
}  # fmt: skip
# Ran by continuous integration, need other machines, or name what only its reader knows.
# What goes over the air and roll-outs are stories in their order, which test_ota.py and
# test_rollout.py of tests/simulations/commands tell.
NOT_RUN = (
    "make ", "deploy keys", "--engine flower", "deploy local", "/shared/job", "PHONE",
    "fedspeech ota", "fedspeech registry", "fedspeech rollout",
)  # fmt: skip
SECONDS = (
    "budget", "scenarios", "ledger", "compare", "report", "secagg bench --phones 300", "doctor",
    "data", "--help", "--version",
)  # fmt: skip


def documented():
    """Yields the commands of all code blocks, without comments and optional parts."""
    for document in DOCUMENTS:
        blocks = re.findall(r"^```\w*\n(.*?)^```", document.read_text("utf-8"), re.M | re.S)
        for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
            command = re.sub(r"\s+#.*|\s\[.*?\]", "", line).strip()
            if command.startswith("fedspeech "):
                yield " ".join(command.split())


COMMANDS = sorted(set(documented()))


def arguments(command):
    """The words after `fedspeech`, with what the document leaves open filled in."""
    for left_open, chosen in LEFT_OPEN.items():
        command = re.sub(rf"(?<![\w.]){left_open}(?![\w.])", chosen, command)
    return shlex.split(command.partition(" > ")[0])[1:]


def test_the_documents_hold_commands():
    assert len(COMMANDS) > 40


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_can_be_read(command):
    words, group = arguments(command), typer.main.get_command(app)
    context = group.make_context("fedspeech", list(words), resilient_parsing=True)
    while hasattr(group, "commands"):
        name, group, words = group.resolve_command(context, words)
        assert group is not None, name
        if words != ["--help"]:
            context = group.make_context(
                name, list(words), parent=context, resilient_parsing=hasattr(group, "commands")
            )


def test_words_of_a_documented_base_can_be_said():
    for command in COMMANDS:
        words = arguments(command)
        if words[0] == "pretrain" and "--words" in words and "--lexicon" not in words:
            for word in words[words.index("--words") + 1].split():
                assert pronunciation(word, {})


def record(folder):
    """Writes recordings of four people, two words each."""
    rng = np.random.default_rng(0)
    rows = ["file,speaker,word,accent"]
    for speaker in ("ann", "bob", "cem", "dora", "eva"):
        (folder / speaker).mkdir(parents=True)
        for word in ("light", "music"):
            for take in range(8):
                file = f"{speaker}/{word}_{take}.wav"
                soundfile.write(folder / file, rng.normal(0, 0.1, 16_000), 16_000)
                rows.append(f"{file},{speaker},{word},{'coastal' if speaker < 'c' else 'inland'}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def run(words, folder):
    """Runs a command in a folder and in this process, where what it imports is there already."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["fedspeech", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
    assert not stopped.value.code, said.getvalue()[-2000:]


def read_so_far(folder, scenario):
    """What a reader of the documents has by then: two runs, a ledger, recordings, scenarios."""
    record(folder / "my-recordings")
    soundfile.write(folder / "street.wav", np.random.default_rng(1).normal(0, 0.05, 64_000), 16_000)
    for seed, name in ((1, "A"), (2, "B")):
        simulate(
            scenario.model_copy(update={"seed": seed}), out=folder / "runs" / name, workers=1,
            cache=cache(), ledger=folder / "population.jsonl",
        )  # fmt: skip
    for name in ("mine.toml", "recommended.toml"):
        (folder / name).write_text(to_toml(read_scenario("quick")), encoding="utf-8")
    policy = (ROOT / "docs" / "mitigations.md").read_text("utf-8")
    (folder / "policy.toml").write_text(policy.partition("```toml\n")[2].partition("```")[0])
    return folder


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The folder of a reader whose runs are tiny and left no file for phones."""
    # Three of its phones are held out: a page for everybody names as few.
    scenario = tiny_scenario("evaluation.min_segment_phones=2")
    return read_so_far(tmp_path_factory.mktemp("reader"), scenario)


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    """The folder of a reader whose runs made every file."""
    return read_so_far(tmp_path_factory.mktemp("listener"), read_scenario("quick"))


def marked():
    """Commands to run, with the marker of the time that they take."""
    for command in COMMANDS:
        if any(part in command for part in NOT_RUN) or "NUMBER:SHA256" in command:
            continue
        words = command.removeprefix("fedspeech ")
        short = any(words.startswith(begin) or begin in words.split()[-1:] for begin in SECONDS)
        marks = [pytest.mark.slow if short else pytest.mark.soak]
        if "DATA" in command and not DATA.is_dir():
            marks.append(pytest.mark.skip(reason=f"no real recordings in {DATA}"))
        yield pytest.param(command, "reader" if short else "listener", marks=marks, id=command)


@pytest.mark.parametrize(("command", "folder"), marked())
def test_a_documented_command_runs_as_written(command, folder, request):
    words, reader = arguments(command), request.getfixturevalue(folder)
    if words[0] in ("simulate", "prepare") and "--out" not in words:
        words += ["--out", f"out-{len(list(reader.glob('out-*')))}"]
    run(words, reader)
