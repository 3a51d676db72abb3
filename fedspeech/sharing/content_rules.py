"""Rules about what a file is made of: types, sound, vectors, keys, times, places."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import itertools
import math
import re
from collections.abc import Iterator

import numpy as np

from fedspeech.sharing.artifact import Artifact, Sought
from fedspeech.sharing.finding import Candidate, Found
from fedspeech.sharing.reading import AUDIO
from fedspeech.sharing.schema import keys_of

UNIT_LENGTH = 16  # components from which a vector of length 1 is taken for a voice
_FOR_SOUND = Sought(re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}"))
_FOR_BYTES = Sought(re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}"))
_DIGEST = re.compile(
    r"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{56}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})"
)
_SCRIPT_HASH = re.compile(r"sha256-[A-Za-z0-9+/]{43}=?")  # in the policy of a page
_TIMES = (
    Sought(re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d")),
    Sought(re.compile(r"(?<![\d:.])(?:[01]?\d|2[0-3]):[0-5]\d(?![\d:]*[\w.]*:)"), parts=(":",)),
    Sought(re.compile(r"(?<!\d)20\d{6}[-_T]?[0-2]\d[0-5]\d(?:[0-5]\d)?(?!\d)")),
)
_TIME_KEY = re.compile(r"time|date|stamp|when|created|started|ended|_at$|(^|_)ts$", re.I)
_PATHS = (
    Sought(re.compile(r"(?<![\w.:/<-])/(?:[\w.@+-]+/)+[\w.@+-]*"), parts=("/",)),
    Sought(
        re.compile(
            r"(?<![\w/])/(?:home|root|Users|tmp|var|mnt|data|opt|etc|srv|media|work)(?:/|\b)"
        ),
        parts=("/",),
    ),
    Sought(re.compile(r"(?<!\w)[A-Za-z]:[\\/]\w"), parts=(":",)),
    Sought(re.compile(r"\\\\\w+\\\w"), parts=("\\",)),
    Sought(re.compile(r"(?<!\w)~[\w-]*/"), parts=("~",)),
    Sought(re.compile(r"file://", re.I), parts=("file://",)),
)
_AUDIO_NAME = Sought(
    re.compile(
        r"\w\.(?:wav|wave|flac|mp3|ogg|oga|opus|m4a|aac|amr|aiff?|au|caf|sph|wma|3gp|webm)\b", re.I
    )
)
_ADDRESS = (
    Sought(re.compile(r"(?<![\w.:])\d{1,3}(?:\.\d{1,3}){3}(?![\w:]|\.\d)")),
    Sought(
        re.compile(r"(?<![\w.:])[0-9a-f:]*:[0-9a-f]*:[0-9a-f:.]*(?![\w:]|\.\d)", re.I), parts=(":",)
    ),
)
_MAC = Sought(
    re.compile(r"(?<![\w:])(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}(?![\w:])", re.I), parts=(":", "-")
)


def file_type(shared: Candidate) -> Found:
    """Only types that the audience is given."""
    kind = shared.artifact.kind
    if kind not in shared.policy.kinds:
        allowed = ", ".join(shared.policy.kinds)
        yield "file", f"{shared.policy.tier} artifacts are {allowed}, got {kind}"


def unread_script(shared: Candidate) -> Found:
    """A page carries no code but that which is known."""
    for number, digest in enumerate(shared.artifact.scripts, 1):
        if digest not in shared.policy.scripts:
            yield f"script {number}", f"code that nobody has read (SHA-256 {digest[:16]})"


def no_audio(shared: Candidate) -> Found:
    """No sound, neither as it is nor inside base64."""
    for pattern, what in AUDIO:
        if found := pattern.search(shared.artifact.content):
            yield f"byte {found.start()}", f"{what} begins here"
    for where, decoded in _decoded(shared.artifact, _FOR_SOUND):
        for pattern, what in AUDIO:
            if pattern.search(decoded):
                yield where, f"{what} stands here as text"


def encoded_data(shared: Candidate) -> Found:
    """No bytes as text: nobody has read them."""
    for where, decoded in _decoded(shared.artifact, _FOR_BYTES):
        if decoded.startswith(b"\x89PNG\r\n\x1a\n") and shared.artifact.kind == "html":
            continue
        yield where, f"{len(decoded)} bytes stand here as text, and no rule reads them"


def long_array(shared: Candidate) -> Found:
    """No list of numbers above the policy's length, and none with one number for each person."""
    most = shared.policy.most_numbers
    people = shared.manifest.contributors if shared.manifest else 0
    for where, numbers in shared.artifact.numbers:
        if len(numbers) > most:
            yield where, f"a list has at most {most} numbers, got {len(numbers)}"
        elif len(numbers) == people:
            yield where, f"one number for each of {people} contributors"


def unit_vector(shared: Candidate) -> Found:
    """No vector of length 1, as embeddings of voices are."""
    for where, numbers in shared.artifact.numbers:
        if len(numbers) < UNIT_LENGTH or np.array_equal(numbers, np.round(numbers)):
            continue
        if abs(float(np.linalg.norm(numbers)) - 1) < 1e-3:
            yield where, f"{len(numbers)} numbers of length 1, as a voice's embedding is"


def unknown_key(shared: Candidate) -> Found:
    """Objects have the names of their kind, and no others."""
    if shared.manifest is None:
        return
    known = keys_of(shared.manifest.kind) | set(shared.policy.keys)
    for where, key in shared.artifact.names():
        if key not in known and not _names_a_thing(shared.artifact, where, key):
            yield where, f"artifacts of kind {shared.manifest.kind} have no key of this name"


def _names_a_thing(artifact: Artifact, where: str, key: str) -> bool:
    """Whether a key of a card names one of its files, an operator of a graph, or a target word."""
    parent = where.removesuffix(key).rstrip(".").rpartition(".")[2]
    if parent == "files":
        return bool(_FILE_NAME.fullmatch(key))
    if parent == "operators":
        return bool(_OPERATOR.fullmatch(key))
    if parent != "thresholds":
        return False
    return any(key in row["labels"] for _, row, _ in artifact.objects_with("labels".__eq__))


_FILE_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}\.(?:tflite|safetensors|onnx|pte|json|md|cc|h|txt|c)")
_OPERATOR = re.compile(r"[A-Z][A-Z0-9_]{0,40}")


def fine_time(shared: Candidate) -> Found:
    """No time finer than a day."""
    for where, _ in shared.artifact.strings(*_TIMES):
        yield where, "a time finer than a day"
    for leaf in shared.artifact.leaves_of(_TIME_KEY.search):
        if _is_number(leaf.value):
            seconds = abs(float(leaf.value or 0))
            if any(5e8 < seconds / unit < 4.2e9 for unit in (1, 1e3, 1e6, 1e9)):
                yield leaf.where, "a time in seconds or finer"


def local_path(shared: Candidate) -> Found:
    """No path of a machine."""
    for where, _ in shared.artifact.strings(*_PATHS):
        yield where, "a path of a machine"


def audio_file_name(shared: Candidate) -> Found:
    """No name of a recording."""
    for where, _ in shared.artifact.strings(_AUDIO_NAME):
        yield where, "the name of a recording"


def network_address(shared: Candidate) -> Found:
    """No address of a machine in a network."""
    for where, text in shared.artifact.strings(_MAC, *_ADDRESS):
        numbers = (found[0] for each in _ADDRESS for found in each.pattern.finditer(text))
        if _MAC.pattern.search(text) or any(map(_is_address, numbers)):
            yield where, "an address of a machine"


def _is_address(text: str) -> bool:
    try:
        # "::320" is an address, and a slice of an array; those of machines have more groups.
        groups = [group for group in text.split(":") if group]
        if ":" in text and (len(groups) < 2 or max(map(len, groups)) < 3):
            return False
        return bool(ipaddress.ip_address(text.rstrip(".")))
    except ValueError:
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _decoded(artifact: Artifact, encoded: Sought) -> Iterator[tuple[str, bytes]]:
    """What stands in texts as base64, without digests."""
    for where, text in artifact.strings(encoded):
        for found in encoded.pattern.finditer(text):
            if (decoded := _from_base64(found[0])) is not None:
                yield where, decoded


def _from_base64(text: str) -> bytes | None:
    """Decoded bytes; None where it is a digest, a number or a word."""
    if _DIGEST.fullmatch(text) or _SCRIPT_HASH.fullmatch(text) or not _looks_encoded(text):
        return None
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _looks_encoded(text: str) -> bool:
    """Whether capitals, small letters and digits are mixed as chance mixes them.

    Names such as FakeQuantWithMinMax are words, each with a capital at most.
    """
    kinds = [_kind(char) for char in text.rstrip("=")]
    changes = sum(one != other for one, other in itertools.pairwise(kinds))
    in_words = sum(map(len, _WORDS.findall(text)))
    mixed = {"A", "a", "0"} <= set(kinds) and changes > len(text) / 4
    return mixed and in_words < len(text) * 3 / 4


_WORDS = re.compile(r"[A-Z]?[a-z]{2,}")


def _kind(char: str) -> str:
    return "A" if char.isupper() else "a" if char.islower() else "0" if char.isdigit() else "-"
