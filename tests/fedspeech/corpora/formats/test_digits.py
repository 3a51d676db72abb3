import pytest

from fedspeech.corpora.layouts import layout_of, open_corpus


@pytest.mark.parametrize(
    "meta", ['{"01": {"accent": "German", "age": 30}}', "{", "[" * 99_999, "[1]", '{"01":1}']
)
def test_audiomnist_is_read_with_what_is_known_about_its_speakers(studio, sound, tone, meta):
    for digit in (0, 7):
        clip = sound(tone(0.7, 48_000, hertz=300 + digit), 48_000)
        studio.clip(f"data/01/{digit}_01_0.wav", clip)
    studio.clip("data/audioMNIST_meta.txt", meta.encode())
    assert layout_of(studio.root) == "AudioMNIST"
    corpus = open_corpus(studio.root)
    assert [(clip.speaker_id, clip.word) for clip in corpus.utterances] == [
        ("01", "zero"), ("01", "seven"),
    ]  # fmt: skip
    known = {"accent": "German", "age": "30"} if "German" in meta else {}
    assert corpus.speakers["01"].segments == known


def test_fsdd_is_the_same_in_one_folder(studio):
    studio.clip("recordings/9_george_0.wav")
    studio.clip("recordings/9_george.wav")
    corpus = open_corpus(studio.root)
    assert [(clip.speaker_id, clip.word) for clip in corpus.utterances] == [("george", "nine")]
