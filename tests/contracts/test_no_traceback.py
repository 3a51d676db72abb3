"""Whatever a user types, writes or records: an answer or one sentence, never a traceback.

Some mutants of each kind by default, 5,000 in all with `-m adversarial`.
"""

import contextlib
import io
import random
import sys

import numpy as np
import pytest
import soundfile

from simulations import cli
from simulations.scenario.reading import read_scenario
from simulations.scenario.writing import to_toml

NASTY = (
    "nan", "inf", "-inf", "-1", "0", "1e999", "99999999999999999999", "true", '""', "[]", "{}", "x",
    "[/b]", "zoë", "\u200b", "\udcff", "a" * 300, "/", "/dev/null", "nowhere", "empty", "folder",
    "text.txt", "sound.wav", "1979-05-27", "'", "=", "..", "0.1", "1", "3",
)  # fmt: skip
PATHS = tuple(text for text in NASTY if not text.replace(".", "").lstrip("-").isdigit())
COMMANDS = (
    ("report", 1), ("report --publish", 1), ("compare", 2), ("ledger", 1), ("ledger --json", 1),
    ("resume", 1), ("export", 1), ("export --verify", 1), ("export --benchmark", 1),
    ("export folder --adapter", 1), ("data check", 1), ("listen --wav sound.wav", 1),
    ("listen text.txt --wav", 1), ("listen text.txt --synthetic-hours", 1),
    ("listen text.txt --threshold 0.5 --evaluate", 1), ("simulate --scenario", 1),
    ("simulate --scenario quick --set", 1), ("simulate --scenario real-commands --corpus", 1),
    ("simulate --scenario real-commands --corpus folder --base", 1), ("scenarios show", 1),
    ("scenarios show quick --set", 1), ("pretrain --out", 1),
    ("pretrain --out b.safetensors --words", 1),
    ("pretrain --out b.safetensors --corpus folder --speakers", 1),
    ("tune --max-accuracy-drop-points", 1), ("tune --clip-norm", 1),
    ("tune --population public --charge", 1),
    ("prepare --out folder -s", 1),
    ("secagg bench --phones", 1), ("secagg bench --phones 5 --dropout", 1), ("deploy keys", 1),
)  # fmt: skip
EXPECTED = {0, 1, 2, cli.EXIT_NO_ROUND}


def run(*arguments):
    """Runs the command line in this process; returns what it printed on standard error."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["fedspeech", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as stopped:
        status = stopped.code or 0
    finally:
        sys.argv = before
    assert status in EXPECTED, f"{arguments!a}: {err.getvalue()}"
    assert "Traceback" not in err.getvalue()
    return err.getvalue()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with one thing of every kind, small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSPEECH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("hello\n")
    soundfile.write(tmp_path / "sound.wav", np.zeros(1_600), 16_000)
    # Nothing that a mutant of the options leaves valid may start to work for minutes.
    for work in (
        "simulations.run.runner.simulate", "simulations.run.preparing.prepare",
        "simulations.tuning.tuner.tune", "simulations.setup.pretraining.synthetic_base",
        "simulations.api.pretraining._write",
    ):  # fmt: skip
        monkeypatch.setattr(work, lambda *_, **__: tmp_path / "nothing was made")
    return tmp_path


def counts(quick, adversarial, soak):
    return [
        quick,
        pytest.param(adversarial, marks=pytest.mark.adversarial),
        pytest.param(soak, marks=pytest.mark.soak),
    ]


@pytest.mark.parametrize("count", counts(30, 500, 1_500))
def test_options(place, count):
    draw = random.Random(1)
    for _ in range(count):
        command, missing = draw.choice(COMMANDS)
        run(*command.split(), *(draw.choice(PATHS) for _ in range(missing)))


@pytest.mark.parametrize("count", counts(30, 500, 1_500))
def test_settings(place, count):
    draw = random.Random(2)
    for _ in range(count):
        name = draw.choice(["quick", "real-commands", "asr-quick"])
        scenario = read_scenario(name, ["corpus.path=x"] if name == "real-commands" else [])
        keys = [key for key, _ in leaves("", scenario.model_dump(mode="json"))]
        chosen = draw.sample(keys, draw.choice([1, 1, 2]))
        run("scenarios", "show", name, *(f"--set={key}={draw.choice(NASTY)}" for key in chosen))


@pytest.mark.parametrize("count", counts(30, 300, 1_000))
def test_scenario_files(place, count):
    draw, text = random.Random(3), to_toml(read_scenario("quick")).encode()
    for _ in range(count):
        (place / "mine.toml").write_bytes(damaged(text, draw))
        run("scenarios", "show", "mine.toml")


@pytest.mark.slow
@pytest.mark.parametrize("count", counts(20, 150, 1_000))
def test_corpora(place, count):
    draw, rng = random.Random(4), np.random.default_rng(4)
    folder = place / "folder"
    rows = ["file,speaker,word,accent"]
    for number in range(6):
        samples = rng.normal(0, 0.1, 1_700).astype(np.float32)
        soundfile.write(folder / f"{number}.wav", samples, 16_000, subtype="PCM_16")
        rows.append(f"{number}.wav,{'abc'[number // 2]},{'yes' if number % 2 else 'no'},north")
    table, sound = ("\n".join(rows) + "\n").encode(), (folder / "0.wav").read_bytes()
    for _ in range(count):
        (folder / "manifest.csv").write_bytes(
            damaged(table, draw) if draw.random() < 0.7 else table
        )
        (folder / "0.wav").write_bytes(damaged(sound, draw, most=60))
        run("data", "check", "folder")


def leaves(prefix, table):
    """Yields dotted names and values of nested tables."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def damaged(data, draw, most=None):
    """Some bytes changed, put in, taken out, repeated or cut off; all within the first `most`."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 5])):
        at = draw.randrange(min(len(changed), most or len(changed)) or 1)
        match draw.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                changed[at:at] = draw.choice(NASTY).encode("utf-8", "surrogateescape")
            case 2:
                del changed[at : at + draw.randrange(1, 30)]
            case 3:
                changed[at:at] = changed[at : at + draw.randrange(1, 200)]
            case 4:
                changed[at:at] = draw.choice([b'"', b"\n", b"\r", b"\0", b",", b"\xff\xfe", b"="])
            case 5:
                del changed[at:]
    return bytes(changed)
