# %% [markdown]
# # Your own recordings, in three layouts
#
# A manifest beside the files, one folder per word as in Speech Commands, and rows in the memory of
# a program. All three end in the same records, so the same experiment runs on each. The recordings
# here are synthesized; docs/own-data.md lists every layout.

# %%
import csv
import tempfile
from pathlib import Path

import soundfile

import fedspeech as fs

folder = Path(tempfile.mkdtemp())
words = ("yes", "no", "stop")
drawn = fs.Experiment(
    scenario="quick",
    task=fs.Kws(words),
    corpus={"federated_phones": 24, "held_out_phones": 2, "validation_speakers": 2},
).speakers
said = [
    clip
    for phone in drawn.partition.federated
    for clip in phone.utterances
    if clip.word in words or clip.word == "_silence_"
]
sounds = drawn.corpus.waveforms(said)

# %% [markdown]
# One: files in any folders, and a `manifest.csv` that names file, speaker and word.

# %%
with_manifest = folder / "manifest"
with_manifest.mkdir()
with (with_manifest / "manifest.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["file", "speaker", "word"])
    for number, (clip, sound) in enumerate(zip(said, sounds, strict=True)):
        soundfile.write(with_manifest / f"{number}.flac", sound, 16_000)
        table.writerow([f"{number}.flac", clip.speaker_id, clip.word])

# %% [markdown]
# Two: a folder per word, the speaker in the name of the file.

# %%
by_word = folder / "by_word"
for number, (clip, sound) in enumerate(zip(said, sounds, strict=True)):
    if clip.word in words:
        (by_word / clip.word).mkdir(parents=True, exist_ok=True)
        name = f"{clip.speaker_id.replace('-', '')}_nohash_{number}.wav"
        soundfile.write(by_word / clip.word / name, sound, 16_000)

# %% [markdown]
# Three: dictionaries, such as a dataset of Hugging Face gives.

# %%
rows = [
    {"audio": sound, "rate_hz": 16_000, "speaker": clip.speaker_id, "word": clip.word}
    for clip, sound in zip(said, sounds, strict=True)
]
corpora = (
    fs.open_corpus(with_manifest),
    fs.open_corpus(by_word),
    fs.Corpus.from_records(rows, name="rows", license="CC0-1.0"),
)

# %%
for corpus in corpora:
    experiment = fs.Experiment(corpus=corpus, task=fs.Kws(words), seed=1)
    print(f"{corpus.layout}: {len(corpus.utterances)} clips of {len(corpus.speakers)} speakers")
    print("  ", experiment.plan.population, "phones federate;", *experiment.notices)
    print("  ", repr(fs.budget(experiment)))
