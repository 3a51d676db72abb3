import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

import fedspeech as fs
from fedspeech.corpora.corpus import Skipped, group_skipped
from fedspeech.errors import CorpusError
from simulations.commands.data import render_check, render_list
from simulations.console import Console
from simulations.setup.folder_check import check_folder


def printed(render, *what):
    console = Console(file=io.StringIO(), width=80)
    render(*what, console)
    return console.file.getvalue()


def record(folder, plan, extra=(), rate_hz=16_000):
    """Writes a corpus: speaker to words; every clip noise of its own."""
    rng = np.random.default_rng(0)
    lines = ["file,speaker,word,accent"]
    for speaker, words in plan.items():
        for take, word in enumerate(words):
            file = f"{speaker}_{take}.wav"
            soundfile.write(folder / file, rng.normal(0, 0.1, rate_hz), rate_hz)
            lines.append(f"{file},{speaker},{word},{speaker[0]}")
    (folder / "manifest.csv").write_text("\n".join([*lines, *extra]) + "\n")


def test_a_check_says_what_a_folder_is_good_for(tmp_path):
    plan = {f"s{n}": ["yes", "no", "zyzzyva"] for n in range(6)} | {"t": ["yes"]}
    (tmp_path / "bad.wav").write_text("text")
    extra = ["bad.wav,s0,yes,s", "none1.wav,s0,yes,s", "none2.wav,s0,yes,s"]
    record(tmp_path, plan, extra, rate_hz=8_000)
    check = check_folder(tmp_path)
    assert (len(check.corpus.utterances), check.speakers, check.silence) == (19, 7, 0)
    assert check.words == (("yes", 7), ("no", 6), ("zyzzyva", 6))
    assert check.lexicon_lacks == ("zyzzyva",)
    assert check.corpus.tally.rates_hz == {8_000: 19}
    assert check.corpus.tally.seconds == pytest.approx(19)
    assert check.segments == (("accent", 2),)
    assert check.obstacle is None
    assert check.split.federated + check.split.held_out == 6
    assert (check.split.public, check.split.validation) == (0, 0)  # of seven nobody can be spared
    assert [(rule, len(found)) for rule, found in check.skipped.items()] == [
        ("no such file", 2), ("not a readable sound file", 1), ("too few clips", 1),
    ]  # fmt: skip
    text = printed(render_check, check)
    for part in (
        "19 clips, 7 speakers, 3 words",
        "19 at 8 kHz",
        "above half their rate there is nothing",
        "yes 7, no 6, zyzzyva 6",
        "6 speakers with 2 to 9, 1 speaker with 1",
        "skipped: 4",
        "2 x no such file",
        "none1.wav",
        "real-commands can run on it: 4 phones would federate, 2 would be held-out",
        "0.3 minutes",
        "so few phones cannot buy a small epsilon",
        f"--corpus {tmp_path} --set privacy.participation_probability=1",
    ):
        assert part in text, part


def test_a_check_does_not_promise_what_the_privacy_rules_refuse(tmp_path):
    """Of five speakers three federate, and no setting of any rule lets three be summed."""
    record(tmp_path, {f"s{n}": ["yes", "no"] for n in range(5)})
    text = printed(render_check, check_folder(tmp_path))
    assert "real-commands cannot run on it: privacy: min_reporting must be at least 2" in text
    assert "4 phones are accepted with privacy." in text


@pytest.mark.parametrize(
    ("plan", "obstacle"),
    [
        ({"anna": ["yes", "no"]}, "it needs 2 speakers"),
        ({"anna": ["yes"], "ben": ["yes"]}, "it needs 2 different words"),
        ({"anna": ["yes"], "ben": ["no"]}, "nobody is left in the group"),
    ],
)
def test_a_check_says_what_is_missing(tmp_path, plan, obstacle):
    record(tmp_path, plan)
    check = check_folder(tmp_path)
    assert check.obstacle.startswith(obstacle)
    assert f"real-commands cannot run on it: {obstacle}" in printed(render_check, check)


def test_a_folder_of_noise_is_recognized(tmp_path):
    soundfile.write(tmp_path / "tap.wav", np.random.default_rng(0).normal(0, 0.1, 40_000), 16_000)
    (tmp_path / "manifest.csv").write_text("file,kind\ntap.wav,tap\n")
    check = check_folder(tmp_path)
    assert (check.corpus.layout, len(check.corpus.utterances)) == ("noise", 2)
    assert (check.silence, check.speakers) == (2, 0)
    assert check.obstacle == "nobody speaks in it: it can only be the noise of another corpus"


def test_a_folder_of_nothing_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="has no layout of a corpus"):
        check_folder(tmp_path)


def test_names_with_brackets_are_printed_as_they_are(tmp_path):
    record(tmp_path, {"[bold]a": ["yes", "[red]no"], "b": ["yes", "no"]})
    assert "[red]no 1" in printed(render_check, check_folder(tmp_path))


def test_ways_to_write_one_speaker_and_channels_that_cancel_are_said(tmp_path):
    plan = {"Zoë": ["yes", "no"], "zo\u200bë": ["yes"], "ann-1": ["yes", "no"], "ann_1": ["yes"]}
    record(tmp_path, plan, ["stereo.wav,ben,yes,b"])
    left = np.random.default_rng(1).normal(0, 0.1, 16_000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, -left], axis=1), 16_000)
    check = check_folder(tmp_path)
    assert check.speakers == 4
    text = printed(render_check, check)
    assert "one speaker, written in several ways: 'Zoë', 'zo\\u200b\\xeb'" in text
    assert "taken for different people: 'ann-1', 'ann_1'; if they are one" in text
    assert "1 recording with channels that cancel each other" in text


@pytest.mark.slow
def test_a_check_says_what_speaker_ids_are_which_lists_hold_and_what_nobody_can_say(tmp_path):
    """Common Voice in Persian: ids are no people, and a base must come of recordings."""
    rng = np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    lines = ["client_id\tpath\tsentence"]
    for number in range(40):
        name = f"cv_{number}.mp3"
        soundfile.write(tmp_path / "clips" / name, rng.normal(0, 0.1, 8_000), 16_000)
        lines.append(f"c{number % 20}\t{name}\t{('بله', 'نه')[number // 20]}")
    (tmp_path / "validated.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "test.tsv").write_text("\n".join([lines[0], lines[1], lines[2]]) + "\n")
    text = printed(render_check, check_folder(tmp_path))
    for part in (
        "note: the corpus's speaker ids are browsers or accounts and no people",
        "official lists: 2 testing speakers",
        "2 would be held-out (2 speakers are held-out, named by the corpus's official list",
        f"fedspeech pretrain --corpus {tmp_path} --speakers 10 --out public.safetensors",
        f"--corpus {tmp_path} --base public.safetensors",
        "words: \u2068بله 20\u2069, \u2068نه 20\u2069",
    ):
        assert part in text, part


def test_sentences_are_counted_and_pointed_to_their_scenario(tmp_path):
    plan = {"ann": ["call my mother", "it's late"], "bob": ["turn the light on", "stop"]}
    record(tmp_path, plan, ["0.wav,,_silence_,x"])
    soundfile.write(tmp_path / "0.wav", np.random.default_rng(9).normal(0, 0.1, 112_000), 16_000)
    check = check_folder(tmp_path)
    assert (check.sentences, check.silence, check.speakers) == (4, 1, 2)
    text = printed(render_check, check)
    assert "4 of the clips are sentences" in text
    assert "1 recording of silence without a speaker: background noise of nobody" in text
    assert f"fedspeech simulate --scenario asr-an4 --corpus {tmp_path}" in text
    assert "not in the lexicon" not in text


def test_a_share_of_bad_rows_is_the_users_to_allow(tmp_path):
    record(tmp_path, {"ann": ["yes"], "bob": ["no"]}, ["x.wav,,yes,x"])
    with pytest.raises(CorpusError, match="1 of 3 rows cannot be used, and more than 20%"):
        check_folder(tmp_path)
    assert check_folder(tmp_path, 0.5).speakers == 2


def test_skips_are_grouped_by_rule_most_frequent_first():
    skips = [Skipped(str(n), f"rule {n % 3 % 2}: detail {n}") for n in range(9)]
    groups = group_skipped(skips)
    assert [(rule, len(found)) for rule, found in groups.items()] == [("rule 0", 6), ("rule 1", 3)]
    assert groups["rule 0"][:3] == [skips[0], skips[2], skips[3]]


def test_the_list_names_license_layout_and_source():
    text = printed(render_list, fs.known_corpora())
    for part in ("Speech Commands v0.02 (CC BY 4.0)", "AudioMNIST (MIT)", "file,speaker,word"):
        assert part in text
    assert "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz\n" in text


@pytest.mark.corpus
def test_the_real_corpora_can_all_run():
    default = Path(__file__).parents[4] / "shared" / "data"
    folder = Path(os.environ.get("FEDSPEECH_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}; FEDSPEECH_TEST_DATA names another folder")
    check = check_folder(folder / "dspspeech20_english_a")
    split = check.split
    assert (check.speakers, split.public, split.validation) == (20, 3, 2)
    assert (split.federated, split.held_out) == (9, 6)
    assert check.obstacle is None
    with pytest.raises(CorpusError, match=r"features and no sound; .* --scenario asr-an4 --corpus"):
        check_folder(folder / "an4_mfcc")


@pytest.mark.slow
@pytest.mark.parametrize(("loudness", "level_db", "warned"), [(0.1, 0, False), (0.001, -40, True)])
def test_a_check_says_how_loud_speech_is_and_warns_where_it_is_too_quiet(
    tmp_path, loudness, level_db, warned
):
    rng = np.random.default_rng(0)
    lines = ["file,speaker,word"]
    for speaker in ("ann", "bob"):
        for word in ("yes", "no"):
            sound = loudness * rng.standard_normal(16_000)
            sound[8_000:] = 0  # silence beside speech does not make it quieter
            file = f"{speaker}_{word}.wav"
            soundfile.write(tmp_path / file, sound, 16_000, subtype="FLOAT")
            lines.append(f"{file},{speaker},{word}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    check = check_folder(tmp_path)
    assert check.level_db == pytest.approx((level_db, level_db), abs=0.5)
    text = printed(render_check, check)
    assert f"level of speech: {level_db:+d} dB from nominal" in text
    assert ("100% of the clips lie more than 30 dB below nominal" in text) == warned
