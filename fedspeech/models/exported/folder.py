"""A base as a folder that people write: `base.toml`, the encoder's file, `head.safetensors`.

    license = "Apache-2.0"
    speakers = []                       # ids of those it was trained on; none may be a phone
    words = ["yes", "no"]

    [encoder]
    file = "encoder.pt2"
    input = "waveform"
    clip_samples = 16000

A base for sentences has `alphabet`, a list of characters, instead of `words`, and says
`encoder.sentences = true`. The head is optional: its weight and bias, and the mean and the matrix
of the pooling in front.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from fedspeech.corpora.corpus import Alphabet, Labels, Vocabulary
from fedspeech.files import read_at_most, remove_made
from fedspeech.models.exported.archive import MAX_BYTES
from fedspeech.models.exported.encoder import Declared, ForeignEncoder
from fedspeech.models.pooling import Pooling

TOML = "base.toml"
HEAD = "head.safetensors"
FILES = {"encoder.pt2": "pt2", "encoder.tflite": "tflite"}
_NAMES = {kind: name for name, kind in FILES.items()}
_LAYER = re.compile(r"pooling_\d+_(weight|bias)")
_POOLINGS = ("mean_max", "network", "mean")

Provenance = Mapping[str, str | int | float]
Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What a base from elsewhere is made of; see `fedspeech.models.base.Base`."""

    encoder: ForeignEncoder
    vocabulary: Labels
    head_weight: NDArray[np.float32]
    head_bias: NDArray[np.float32]
    provenance: Provenance
    speakers: tuple[str, ...]
    pooling: Pooling | None
    hard_negatives: NDArray[np.float32] | None


def read_folder(folder: Path) -> Parts:
    """Reads a base's folder.

    Raises:
      FileNotFoundError: if it has no `base.toml`.
      ValueError: naming file, key and value: an unknown or missing key, a value out of its range,
        an encoder that is refused, a head that does not fit.
    """
    try:
        text = (folder / TOML).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} is no base: it has no {TOML} (docs/own-model.md lists its keys)"
        ) from None
    try:
        values = tomllib.loads(text)
        _check_keys(values, "", required=("license", "speakers", "encoder"),
                    optional=("words", "alphabet", "pooling", "provenance"))  # fmt: skip
        encoder = _read_encoder(folder, values["encoder"])
        head_file = folder / HEAD
        head = _read_head(read_at_most(head_file, MAX_BYTES)) if head_file.exists() else {}
        return assembled(
            encoder=encoder,
            vocabulary=_labels(values),
            license=_string("license", values["license"]),
            speakers=tuple(_strings("speakers", values["speakers"])),
            provenance=_provenance(values.get("provenance", {})),
            pooling=values.get("pooling"),
            head=head,
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / TOML}: not TOML: {error}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder}: {error}") from error


def assembled(
    *,
    encoder: ForeignEncoder,
    vocabulary: Labels,
    license: str,  # noqa: A002
    speakers: tuple[str, ...],
    provenance: Provenance,
    pooling: str | None = None,
    head: Mapping[str, NDArray[np.float32]] | None = None,
) -> Parts:
    """Puts a base together; a head that is not there is zeros.

    Args:
      encoder: the network, probed.
      vocabulary: labels of the head.
      license: of the weights.
      speakers: ids of those it was trained on.
      provenance: how it was made.
      pooling: "mean_max" makes one vector of mean and maximum over frames, "network" lets a small
        network do it, "mean" leaves the mean to adapters; None: "mean_max" where an utterance has
        several frames or there is no head.
      head: any of head_weight (c, f), head_bias (c,), pooling_mean (2 f,), pooling_matrix, and of a
        network that pools, pooling_0_weight, pooling_0_bias, pooling_1_weight and so on;
        hard_negatives (n, w, f).

    Raises:
      ValueError: if a name is unknown or a shape does not fit.
    """
    given = dict(head or {})
    known = ("head_weight", "head_bias", "pooling_mean", "pooling_matrix", "hard_negatives")
    unknown = sorted(name for name in set(given) - set(known) if not _LAYER.fullmatch(name))
    if unknown:
        raise ValueError(f"{HEAD} may hold {', '.join(known)}, got {', '.join(unknown)}")
    if pooling not in (None, *_POOLINGS):
        raise ValueError(f"pooling must be one of {', '.join(_POOLINGS)}, got {pooling!r}")
    constants = {name for name in given if name.startswith("pooling")}
    pair = {"pooling_mean", "pooling_matrix"}
    if constants and (not pair <= constants or pooling == "mean"):
        raise ValueError(
            'pooling_mean and pooling_matrix belong together and to pooling = "mean_max", got '
            f"{', '.join(sorted(constants))} with pooling = {pooling!r}"
        )
    clips = vocabulary.output_unit == "clip"
    if clips == encoder.declared.sentences:
        raise ValueError(
            "an alphabet belongs to encoder.sentences = true and words to false, got "
            f"{'words' if clips else 'an alphabet'} with {encoder.declared.sentences}"
        )
    if not clips and (constants or pooling in ("mean_max", "network")):
        raise ValueError(f"sentences are answered frame by frame, got pooling = {pooling!r}")
    # Without a head one will be fit, on mean and maximum: a single vector counts as both.
    several = pooling is None and (encoder.num_windows > 1 or "head_weight" not in given)
    pools = clips and (pooling in ("mean_max", "network") or several or constants)
    made = None
    if constants:
        made = Pooling.of_arrays(given)
        if len(made.to_arrays()) != len(constants):
            raise ValueError(
                "layers of a network that pools are numbered from 0 and have weight and bias, got "
                f"{', '.join(sorted(constants - pair))}"
            )
    elif pools:
        made = Pooling.identity(encoder.num_features)
    if pooling and made and bool(made.layers) != (pooling == "network"):
        raise ValueError(
            'layers belong to pooling = "network" and to no other, got '
            f"{len(made.layers)} with pooling = {pooling!r}"
        )
    features = encoder.num_features if made is None else made.num_features
    labels = len(vocabulary.labels)
    return Parts(
        encoder=encoder,
        vocabulary=vocabulary,
        head_weight=given.get("head_weight", np.zeros((labels, features), np.float32)),
        head_bias=given.get("head_bias", np.zeros(labels, np.float32)),
        provenance={"license": license, **provenance},
        speakers=speakers,
        pooling=made,
        hard_negatives=given.get("hard_negatives"),
    )


def base_folder(path: Path) -> Path | None:
    """The folder of a base at a path, or None.

    A process that is killed while it replaces a base may leave nothing at the path: then it is the
    base that was to be replaced, which lies beside it.
    """
    path = path.resolve()
    return next((folder for folder in (path, _aside(path)) if folder.is_dir()), None)


def _aside(folder: Path) -> Path:
    """Where a base lies while another one takes its place."""
    return folder.with_name(f".{folder.name}.replaced")


def write_folder(folder: Path, parts: Parts) -> None:
    """Writes a base's folder, all of it or nothing; a base that was there is replaced.

    Whenever the process is killed, `base_folder` finds the old base or the new one, whole.

    Raises:
      FileExistsError: if something else lies there, naming it.
    """
    own, folder = (TOML, HEAD, *FILES), folder.resolve()  # of a link, what it leads to is replaced
    others = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if others := [name for name in others if name not in own]:
        raise FileExistsError(
            f"{folder} holds {others[0]!r}, which is no part of a base; nothing was written"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".base-") as made:
        whole = Path(made) / "base"
        whole.mkdir()
        declared = parts.encoder.declared
        (whole / _NAMES[declared.file]).write_bytes(parts.encoder.content)
        (whole / TOML).write_text(_toml(parts), encoding="utf-8")
        (whole / HEAD).write_bytes(safetensors_numpy.save(_arrays(parts)))
        aside = _aside(folder)
        if folder.exists():
            # What an earlier process that was killed left there.
            remove_made([aside / name for name in own], [aside])
            folder.rename(aside)
        try:
            # No folder can take the place of one that holds files, so there is a moment without.
            whole.rename(folder)
        except OSError:
            if aside.exists():
                aside.rename(folder)
            raise
        remove_made([aside / name for name in own], [aside])


def _arrays(parts: Parts) -> Arrays:
    arrays = {"head_weight": parts.head_weight, "head_bias": parts.head_bias}
    if parts.pooling is not None:
        arrays |= parts.pooling.to_arrays()
    if parts.hard_negatives is not None:
        arrays["hard_negatives"] = parts.hard_negatives
    return {name: np.ascontiguousarray(value) for name, value in arrays.items()}


def _toml(parts: Parts) -> str:
    declared = parts.encoder.declared.to_metadata()
    declared["file"] = _NAMES[declared["file"]]
    provenance = dict(parts.provenance)
    values = {
        "license": provenance.pop("license", "unknown"),
        "speakers": list(parts.speakers),
        **_labels_values(parts.vocabulary),
        "encoder": {name: value for name, value in declared.items() if value is not None},
        "provenance": provenance,
    }
    if not parts.encoder.declared.sentences:
        pooled = "network" if parts.pooling and parts.pooling.layers else "mean_max"
        values["pooling"] = "mean" if parts.pooling is None else pooled
    return tomli_w.dumps(values)


def _labels(values: Mapping[str, Any]) -> Labels:
    """The words of a base, or the alphabet of one for sentences."""
    if ("words" in values) == ("alphabet" in values):
        given = "both" if "words" in values else "neither"
        raise ValueError(f"{TOML}: a base has either words or an alphabet, got {given}")
    if "words" in values:
        return Vocabulary(tuple(_strings("words", values["words"])))
    return Alphabet(tuple(_strings("alphabet", values["alphabet"])))


def _labels_values(labels: Labels) -> dict[str, Any]:
    """Inverts `_labels`."""
    keys = {"targets": "words", "characters": "alphabet"}
    return {keys[name]: value for name, value in labels.to_metadata().items()}


def _read_encoder(folder: Path, values: Any) -> ForeignEncoder:
    names = tuple(field.name for field in dataclasses.fields(Declared))
    _check_keys(values, "encoder.", required=("file",), optional=names)
    name = _string("encoder.file", values["file"])
    if name not in FILES:
        raise ValueError(f"encoder.file must be one of {', '.join(FILES)}, got {name!r}")
    try:
        content = read_at_most(folder / name, MAX_BYTES)
    except FileNotFoundError:
        raise ValueError(f"encoder.file names {name}, which is not in the folder") from None
    try:
        declared = Declared.of_metadata(values | {"file": FILES[name]})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{TOML}: encoder: {error}") from error
    try:
        return ForeignEncoder(content=content, declared=declared)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _read_head(content: bytes) -> Arrays:
    try:
        arrays: Arrays = safetensors_numpy.load(content)
    except SafetensorError as error:
        raise ValueError(f"{HEAD}: {error}") from error
    return arrays


def _check_keys(
    values: Any, place: str, *, required: tuple[str, ...], optional: tuple[str, ...]
) -> None:
    """Refuses keys that nobody reads, and a table that is none."""
    if not isinstance(values, dict):
        raise ValueError(f"{TOML}: {place.rstrip('.')} must be a table, got {values!r}")
    for key in values:
        if key not in required + optional:
            known = ", ".join(dict.fromkeys(required + optional))
            raise ValueError(f"{TOML}: unknown key {place}{key}; there are {known}")
    for key in required:
        if key not in values:
            raise ValueError(f"{TOML}: the key {place}{key} is missing")


def _string(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{TOML}: {key} must be a string, got {value!r}")
    return value


def _strings(key: str, values: Any) -> list[str]:
    if not isinstance(values, list):
        raise ValueError(f"{TOML}: {key} must be a list of strings, got {values!r}")
    return [_string(key, value) for value in values]


def _provenance(values: Any) -> Provenance:
    if not isinstance(values, dict) or not all(
        isinstance(value, (str, int, float)) for value in values.values()
    ):
        raise ValueError(f"{TOML}: provenance must be a table of strings and numbers")
    return values
