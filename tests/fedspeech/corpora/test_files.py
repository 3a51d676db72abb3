import io
import unicodedata

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.corpora import files
from fedspeech.corpora.files import Folder, Part, UnusableError, decode, fit


def read(data, **how):
    return decode(data, rate_hz=16_000, **how)


def refused(data, rule, **how):
    with pytest.raises(UnusableError, match=f"^{rule}: ") as caught:
        read(data, **how)
    assert str(caught.value).partition(": ")[0] == rule


def test_a_mono_wav_is_read_to_the_sample(sound, tone):
    recording = read(sound(tone(), subtype="FLOAT"))
    np.testing.assert_array_equal(recording.samples, tone())
    assert recording.samples.dtype == np.float32
    assert (recording.rate_hz, recording.channels, recording.seconds) == (16_000, 1, 1.0)


@pytest.mark.parametrize(
    ("format_", "subtype", "error"),
    [("FLAC", "PCM_16", 1e-4), ("OGG", "VORBIS", 0.02), ("OGG", "OPUS", 0.05), ("MP3", None, 0.05)],
)
def test_compressed_files_are_read(sound, tone, format_, subtype, error):
    samples = read(sound(tone(), format=format_, subtype=subtype)).samples
    assert len(samples) == 16_000
    inner = slice(2_000, -2_000)  # codecs ring at the edges
    assert np.sqrt(np.mean((samples[inner] - tone()[inner]) ** 2)) < error


def test_stereo_becomes_the_mean_and_says_so(sound, tone):
    left, right = tone(hertz=300), tone(hertz=700)
    recording = read(sound(np.stack([left, right], axis=1), subtype="FLOAT"))
    np.testing.assert_allclose(recording.samples, (left + right) / 2, atol=1e-7)
    assert recording.channels == 2


def test_channels_that_cancel_each_other_are_not_averaged_into_noise(sound, tone):
    noise = np.random.default_rng(0).normal(0, 0.001, (16_000, 2)).astype(np.float32)
    opposite = np.stack([0.9 * tone(), -tone()], axis=1) + noise
    recording = read(sound(opposite, subtype="FLOAT"))
    assert recording.canceled
    np.testing.assert_array_equal(recording.samples, opposite[:, 1])


@pytest.mark.parametrize("channels", [2, 6, 8])
def test_independent_channels_and_one_among_silent_ones_are_averaged(sound, tone, channels):
    independent = np.random.default_rng(0).normal(0, 0.1, (16_000, channels)).astype(np.float32)
    one = np.zeros((16_000, channels), dtype=np.float32)
    one[:, 1] = tone()
    offset = one + np.linspace(-0.3, 0.3, channels, dtype=np.float32)
    for samples in (independent, one, offset):
        recording = read(sound(samples, subtype="FLOAT"))
        assert not recording.canceled
        np.testing.assert_allclose(recording.samples, samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(sound, tone, rate_hz):
    recording = read(sound(tone(rate_hz=rate_hz), rate_hz=rate_hz, subtype="FLOAT"))
    assert recording.rate_hz == rate_hz
    assert len(recording.samples) == 16_000
    inner = slice(1_000, -1_000)
    np.testing.assert_allclose(recording.samples[inner], tone()[inner], atol=1e-3)


def test_a_recording_at_8_khz_has_nothing_above_4_khz(sound):
    noise = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    samples = read(sound(noise, rate_hz=8_000)).samples * np.hanning(16_000)
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(16_000, 1 / 16_000)
    assert power[hertz > 4_000].sum() < 1e-10 * power.sum()


@pytest.mark.parametrize("share", [0.95, 0.5, 0.01])
@pytest.mark.parametrize("form", [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24")])
def test_a_truncated_wav_is_refused_though_libsndfile_would_read_it(sound, tone, form, share):
    data = sound(tone(), format=form[0], subtype=form[1])
    refused(data[: 100 + int(share * (len(data) - 100))], "cut short")


@pytest.mark.parametrize(
    "form", [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]
)
@pytest.mark.parametrize("share", [0.7, 0.3])
def test_other_truncated_files_are_refused(sound, tone, form, share):
    data = sound(tone(), format=form[0], subtype=form[1])
    with pytest.raises(UnusableError):
        read(data[: int(share * len(data))])


def with_data_length(data, length):
    changed = bytearray(data)
    at = data.index(b"data")
    changed[at + 4 : at + 8] = length.to_bytes(4, "little")
    return bytes(changed)


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF])
def test_a_wav_written_into_a_pipe_has_no_length_and_is_read(sound, tone, length):
    data = with_data_length(sound(tone()), length)
    assert len(read(data).samples) == 16_000
    assert len(read(data[:4] + length.to_bytes(4, "little") + data[8:]).samples) == 16_000


def test_a_wav_that_holds_more_than_it_promises_is_refused_instead_of_halved(sound, tone):
    refused(with_data_length(sound(tone()), 16_000), "longer than its header says")


@pytest.mark.parametrize("tail", [b"LIST\xd0\x07\0\0" + b"x" * 2_000, b"TAG" + b"\0" * 125])
def test_chunks_and_short_tags_after_the_sound_are_no_sound(sound, tone, tail):
    assert len(read(sound(tone()) + tail).samples) == 16_000
    refused(sound(tone()[:0]) + b"LIST\xd0\x07\0\0" + b"x" * 2_000, "no samples")


@pytest.mark.parametrize("form", ["RF64", "W64"])
def test_wavs_with_long_headers_are_read_and_refused_where_cut(sound, tone, form):
    data = sound(tone(), format=form)
    np.testing.assert_allclose(read(data).samples, tone(), atol=1e-4)
    refused(data[: len(data) // 2], "cut short")


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_16", "IMA_ADPCM", "ULAW"])
def test_telephone_codecs_are_read_though_some_cannot_seek(sound, tone, subtype):
    samples = read(sound(tone(rate_hz=8_000), rate_hz=8_000, subtype=subtype)).samples
    assert len(samples) == pytest.approx(16_000, abs=1_100)  # whole blocks


def mp3(samples, mode, rate_hz=16_000):
    """An mp3 without the frame that states its length, as encoders write into a pipe."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate_hz, format="MP3", bitrate_mode=mode)
    data = stream.getvalue()
    return data[data.index(data[:2], 2) :]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_that_does_not_state_its_length_is_read_to_its_end(tone, mode, rate_hz, channels):
    quiet = np.zeros(rate_hz, dtype=np.float32)  # few bits a second, after which estimates go wrong
    speech = np.concatenate([quiet, tone(2, rate_hz), quiet, tone(1, rate_hz, hertz=900)])
    data = mp3(np.stack([speech] * channels, axis=1), mode, rate_hz)
    assert not any(tag in data for tag in (b"Xing", b"Info"))
    samples = read(data).samples
    delay = len(samples) - 5 * 16_000  # of the encoder, and its last frame
    assert 0 <= delay < 0.1 * 16_000 * (3 if rate_hz == 16_000 else 1)
    assert np.abs(samples[-4_000:-2_500]).max() == pytest.approx(0.3, abs=0.05)
    assert np.abs(read(b"ID3\3\0\0\0\0\0\4abcd" + data).samples - samples).max() < 1e-3
    assert len(read(data + b"TAG" + bytes(125)).samples) == len(samples)


def test_an_mp3_whose_frames_cannot_be_counted_is_refused(tone):
    data = mp3(tone(3), "VARIABLE")
    refused(data[:600] + b"\0" * 5_000 + data[600:], "an mp3 that does not state its length")


@pytest.mark.parametrize(
    ("form", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", None)]
)
def test_a_part_of_a_file_is_what_the_whole_has_there(sound, tone, form, subtype):
    speech = np.concatenate([tone(1, hertz=hertz) for hertz in (300, 600, 900)])
    data = sound(speech, format=form, subtype=subtype)
    whole = read(data).samples
    part = read(data, part=Part(0.75, 1.5))
    np.testing.assert_allclose(part.samples, whole[12_000:36_000], atol=2e-3)
    assert part.seconds == 1.5
    np.testing.assert_allclose(read(data, part=Part(2.5)).samples, whole[40_000:], atol=2e-3)
    assert len(read(data, part=Part(2.5, 0.55)).samples) == 8_000  # a little beyond the end
    refused(data, "a part beyond the end", part=Part(2.5, 2))
    refused(data, "a part beyond the end", part=Part(3.5))


def test_one_channel_of_two_speakers_is_taken_alone(sound, tone):
    data = sound(np.stack([tone(hertz=300), tone(hertz=900)], axis=1), subtype="FLOAT")
    np.testing.assert_array_equal(read(data, part=Part(channel=1)).samples, tone(hertz=900))
    refused(data, "no such channel", part=Part(channel=2))


@pytest.mark.slow
def test_ten_hours_are_refused_before_they_are_decoded(sound, tone):
    hours = sound(np.zeros(36_000 * 8_000, dtype=np.int16), rate_hz=8_000, format="FLAC")
    assert len(hours) < 10e6
    refused(hours, "too long")
    np.testing.assert_array_equal(
        read(hours, part=Part(20_000.5, 1), flat=True).samples, np.zeros(16_000)
    )


def test_an_absolute_path_is_read_where_the_layout_has_them_and_a_relative_way_out_is_not(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out.wav").write_bytes(b"out")
    away = str(tmp_path / "out.wav")
    with pytest.raises(UnusableError, match="outside the folder"):
        Folder(tmp_path / "in").read(away)
    folder = Folder(tmp_path / "in", absolute=True)
    assert folder.read(away) == b"out"
    assert folder.is_outside(away)
    assert not folder.is_outside(str(tmp_path / "in" / "a.wav"))
    with pytest.raises(UnusableError, match="outside the folder"):
        folder.read("../out.wav")
    for strange in ("/dev/zero", "/proc/self/environ\0", "/" + "a" * 9_000):
        with pytest.raises(UnusableError, match="no such file"):
            folder.read(strange)


@pytest.mark.parametrize("data", [b"", b"this is text\n" * 99, b"RIFF", b"RIFF\0\0\0\0WAVEfmt "])
def test_what_is_no_sound_file_is_refused(data):
    refused(data, "not a readable sound file")


def test_other_formats_are_refused_by_name(sound, tone):
    refused(sound(tone(), format="AIFF"), "not wav, flac, ogg or mp3")


def test_empty_short_and_long_recordings_are_refused(sound, tone):
    refused(sound(tone()[:0]), "no samples")
    refused(sound(tone(0.05)), "too short")
    refused(sound(tone(10.1)), "too long")
    assert len(read(sound(tone(10.1)), max_seconds=20).samples) == 161_600


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_sample_that_is_not_finite_is_enough_to_refuse(sound, tone, bad):
    samples = tone()
    samples[77] = bad
    refused(sound(samples, subtype="FLOAT"), "NaN or infinite samples")


def test_integers_stored_as_float_are_refused(sound, tone):
    refused(sound(tone() * 32_768, subtype="FLOAT"), "not at full scale 1")
    assert read(sound(tone() * 4, subtype="FLOAT")).samples.max() > 1  # a little over is kept


def test_a_dead_recording_is_refused_except_as_silence(sound):
    dead = sound(np.full(16_000, 0.25, dtype=np.float32))
    refused(dead, "no sound")
    assert len(read(dead, flat=True).samples) == 16_000
    against = np.stack([np.ones(16_000), -np.ones(16_000)], axis=1) * 0.25
    refused(sound(against), "no sound")


def test_odd_rates_and_channels_are_refused(sound, tone):
    rule = "sample rate not in 8000 to 192000 Hz"
    refused(sound(tone(rate_hz=4_000), rate_hz=4_000), rule)
    refused(sound(tone(rate_hz=1_000_000, seconds=0.2), rate_hz=1_000_000), rule)
    refused(sound(np.stack([tone()] * 9, axis=1)), "too many channels")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), min_size=1, max_size=6))
@pytest.mark.parametrize("form", [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_damaged_bytes_are_read_or_refused_and_never_crash(sound, tone, form, changes):
    data = bytearray(sound(tone(0.2), format=form[0], subtype=form[1]))
    for place, value in changes:
        data[place] = value
    try:
        samples = read(bytes(data)).samples
    except UnusableError:
        return
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 2 * files.MAX_PEAK


def test_members_of_a_tar_are_read_in_place(studio):
    studio.tar("a.tar", {"x.wav": b"first", "./sub/y.wav": b"second"})
    folder = Folder(studio.root)
    assert folder.read("x.wav", "a.tar") == b"first"
    assert folder.read("sub/y.wav", "a.tar") == b"second"


def test_what_cannot_be_read_is_refused_with_its_rule(studio, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "private.wav"
    outside.write_bytes(b"elsewhere")
    (studio.root / "link.wav").symlink_to(outside)
    (studio.root / "dangling.wav").symlink_to(outside.with_name("gone.wav"))
    (studio.root / "loop.wav").symlink_to(studio.root / "loop.wav")
    (studio.root / "folder.wav").mkdir()
    studio.clip("a.wav")
    studio.tar("packed.tar", {"x.wav": b"x"}, mode="w:gz")
    studio.tar("a.tar", {"x.wav": b"x"})
    expected = {
        ("none.wav", None): "no such file",
        ("folder.wav", None): "no such file",
        ("../outside.wav", None): "outside the folder",
        (str(outside), None): "outside the folder",
        ("sub/../../outside.wav", None): "outside the folder",
        ("..\\outside.wav", None): "outside the folder",
        ("dangling.wav", None): "no such file",
        ("\udcff.wav", None): "not a file name",
        ("none.wav", "a.tar"): "no such member",
        ("../x.wav", "a.tar"): "no such member",
        ("x.wav", "none.tar"): "no such file",
        ("x.wav", "../a.tar"): "outside the folder",
        ("x.wav", "packed.tar"): "not an uncompressed tar",
        ("x.wav", "a.wav"): "not an uncompressed tar",
    }
    folder = Folder(studio.root)
    for place, rule in expected.items():
        with pytest.raises(UnusableError) as caught:
            folder.read(*place)
        assert str(caught.value).partition(": ")[0] == rule, place
    assert folder.read("link.wav") == b"elsewhere"  # who placed the link owns the folder
    for name in ("loop.wav", "a\0.wav", "x" * 9_999, ""):
        with pytest.raises(UnusableError, match=r"^(no such file|not a file name): "):
            folder.read(name)


def test_a_tar_that_is_a_link_is_read(studio, tmp_path_factory):
    studio.tar("a.tar", {"x.wav": b"first"})
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.tar"
    (studio.root / "a.tar").rename(elsewhere)
    (studio.root / "a.tar").symlink_to(elsewhere)
    assert Folder(studio.root).read("x.wav", "a.tar") == b"first"


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        ("ann/x.wav", "ann\\x.wav"),
        (unicodedata.normalize("NFD", "zoë/x.wav"), "zoë/x.wav"),
        ("zoë/x.wav", unicodedata.normalize("NFD", "zoë/x.wav")),
        ("back\\slash.wav", "back\\slash.wav"),  # a name of its own on Linux
    ],
)
def test_names_are_found_as_other_systems_write_them(studio, stored, written):
    studio.clip(stored, b"plain")
    studio.tar("a.tar", {stored: b"packed"})
    folder = Folder(studio.root)
    assert folder.read(written) == b"plain"
    assert folder.read(written, "a.tar") == b"packed"


def test_a_truncated_tar_still_gives_its_whole_members(studio):
    studio.tar("a.tar", {"x.wav": b"x" * 5_000, "y.wav": b"y" * 5_000})
    path = studio.root / "a.tar"
    path.write_bytes(path.read_bytes()[:8_000])
    folder = Folder(studio.root)
    assert folder.read("x.wav", "a.tar") == b"x" * 5_000
    with pytest.raises(UnusableError, match=r"^no such member: y.wav is not in a.tar, or is cut"):
        folder.read("y.wav", "a.tar")


def test_a_file_too_large_for_a_clip_is_not_even_opened(studio):
    with (studio.root / "huge.wav").open("wb") as stream:
        stream.truncate(files.MAX_FILE_BYTES + 1)
    with pytest.raises(UnusableError, match=r"^file too large: 64 MB"):
        Folder(studio.root).read("huge.wav")


def test_a_short_recording_stands_in_the_middle_of_zeros(tone):
    clip = fit(tone(0.5), 16_000)
    np.testing.assert_array_equal(clip[4_000:12_000], tone(0.5))
    assert not clip[:4_000].any()
    assert not clip[12_000:].any()
    assert len(fit(tone(0.5)[:-1], 16_000)) == 16_000


@pytest.mark.parametrize("at", [0, 3_200, 17_600, 24_000])
def test_of_a_long_recording_the_window_around_the_sound_is_kept(tone, at):
    recording = np.random.default_rng(1).normal(0, 0.003, 32_000).astype(np.float32)
    recording[at : at + 8_000] += tone(0.5)
    clip = fit(recording, 16_000)
    start = next(s for s in range(16_001) if np.array_equal(recording[s : s + 16_000], clip))
    centered = np.clip(at + 4_000 - 8_000, 0, 16_000)
    assert abs(start - centered) <= 320


@given(count=st.integers(1, 40_000), clip=st.sampled_from([1_600, 16_000, 16_010]))
@settings(max_examples=50, deadline=None)
def test_a_clip_is_always_as_long_as_it_should_be(count, clip):
    samples = np.arange(1, count + 1, dtype=np.float32)
    fitted = fit(samples, clip)
    assert fitted.shape == (clip,)
    kept = fitted[fitted > 0]
    assert len(kept) == min(count, clip)
    assert (np.diff(kept) == 1).all()
