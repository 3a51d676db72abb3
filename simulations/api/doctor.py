"""A check of this machine: versions, cores, memory, disk, and one pass through every part.

What is imported may be what is wrong, so every check imports for itself.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich.text import Text

from fedspeech.extras import EXTRAS, lacking
from simulations.console import Console, Printed

MINIMUM_FREE_BYTES = 3_000_000_000
LIBRARIES = ("flwr", "torch", "opacus", "dp_accounting", "soundfile")


class _Absent(Exception):
    """A part that is not installed; nothing is wrong with that."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
      name: of the part.
      state: "ok", "absent" (an extra that is not installed, which is not wrong) or "wrong".
      said: what was found, in words.
    """

    name: str
    state: Literal["ok", "absent", "wrong"]
    said: str

    def print(self, console: Console) -> None:
        """Prints it as one line."""
        style = {"ok": "green", "absent": "yellow", "wrong": "red"}[self.state]
        lead = self.state.ljust(6 if self.state != "absent" else 7)
        console.print(Text.assemble((lead, style), f"{self.name}: {self.said}"), soft_wrap=True)


@dataclass(frozen=True)
class Diagnosis(Printed):
    """What every check of a machine found, in order."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.state != "wrong" for finding in self.findings)

    def print(self, console: Console) -> None:
        """Prints a line for each check."""
        for finding in self.findings:
            finding.print(console)


def doctor(tell: Callable[[Finding], None] = lambda finding: None) -> Diagnosis:
    """Checks this machine: versions, cores, memory, disk, and one pass through every part.

        >>> import fedspeech as fs
        >>> fs.doctor().findings[0].name                                        # doctest: +SKIP
        'python'

    Args:
      tell: called with each finding when it is there; some take seconds.
    """
    findings = []
    for name, check in _checks():
        findings.append(_found(name, check))
        tell(findings[-1])
    return Diagnosis(tuple(findings))


def _checks() -> list[tuple[str, Callable[[], str]]]:
    return [
        ("python", _python),
        ("cores and memory", _machine),
        ("disk", _disk),
        *((library, lambda library=library: _library(library)) for library in LIBRARIES),
        ("base in the package", _base),
        ("one clip, heard", _clip),
        ("one private round", _round),
        *((f"[{extra}]", lambda extra=extra: _extra(extra)) for extra in EXTRAS),
        *([] if lacking("export") else [("one file, converted", _file)]),
    ]


def _found(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", check())
    except _Absent as absent:
        return Finding(name, "absent", str(absent))
    except Exception as error:  # a doctor reports whatever is wrong and goes on
        return Finding(name, "wrong", str(error))


def _python() -> str:
    version = sys.version_info
    if not (3, 11) <= version[:2] < (3, 14):
        raise RuntimeError(f"expected Python 3.11 to 3.13, got {version.major}.{version.minor}")
    return sys.version.split()[0]


def _machine() -> str:
    import psutil

    return f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.1f} GiB"


def _disk() -> str:
    from simulations.setup.embedding import cache_folder

    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache):
        pass
    free = shutil.disk_usage(cache).free
    if free < MINIMUM_FREE_BYTES:
        raise RuntimeError(
            f"expected {MINIMUM_FREE_BYTES / 1e9:.0f} GB free, got {free / 1e9:.1f} GB"
        )
    return f"{free / 1e9:.0f} GB free at {cache}"


def _library(name: str) -> str:
    module = importlib.import_module(name)
    return str(getattr(module, "__version__", "imports"))


def _extra(name: str) -> str:
    if said := lacking(name):
        raise _Absent(said)
    # Not imported: TensorFlow must not enter a process that holds torch.
    return f"{EXTRAS[name].brings} installed"


def _base() -> str:
    from fedspeech.models.base import Base, default_base_path, sentence_base_path

    words, sentences = (Base.load(path) for path in (default_base_path(), sentence_base_path()))
    said = " ".join(words.vocabulary.labels[:-2])
    return f"{words.sha256[:12]}, words {said}; {sentences.sha256[:12]}, sentences"


def _clip() -> str:
    from fedspeech.corpora.corpus import Vocabulary
    from fedspeech.corpora.synthetic import SyntheticCorpus
    from fedspeech.models.base import Base, default_base_path
    from fedspeech.tasks.kws import Kws
    from simulations.scenario.schema import Scenario
    from simulations.setup.speakers import public_spec

    base = Base.load(default_base_path())
    vocabulary = Vocabulary(Kws.known(base))
    corpus = SyntheticCorpus(public_spec(Scenario(name="doctor"), vocabulary, 1))
    clip = next(clip for clip in corpus.utterances if clip.word in vocabulary.targets)
    answer = int(base.logits(base.encoder_output(base.heard(corpus, [clip]))).argmax())
    return f"said {clip.word!r}, heard {vocabulary.labels[answer]!r}"


def _file() -> str:
    """TensorFlow is tried where it runs: in the process that converts, never in this one."""
    import numpy as np

    from fedspeech.models.adapters import make_adapter
    from fedspeech.models.base import Base, default_base_path
    from fedspeech.seeds import stream
    from tflite_export.blueprint import Blueprint
    from tflite_export.converter import Converter
    from tflite_export.evidence import reference_logits
    from tflite_export.interpreter import TfliteModel
    from tflite_export.parity import MAX_LOGIT_DIFFERENCE
    from tflite_export.weights import Trained, network

    base = Base.load(default_base_path())
    head = make_adapter("head", base.num_windows, *base.head_weight.shape[::-1])
    parameters = head.initial(base.head_weight, base.head_bias)
    trained = Trained(base=base, adapter=head, parameters=parameters)
    with Converter() as converter:
        content = converter.convert(Blueprint(graph="keyword", network=network(trained)))
    clips = stream(0, "doctor").normal(0, 0.1, (4, base.heard_samples)).astype(np.float32)
    found = TfliteModel(content).run_each("waveform", clips)
    difference = float(np.abs(found - reference_logits(trained, clips)).max())
    if difference > MAX_LOGIT_DIFFERENCE:
        raise RuntimeError(
            f"expected the logits of torch, at most {MAX_LOGIT_DIFFERENCE:g} apart, got "
            f"{difference:.2g}"
        )
    return f"{len(content) / 1000:.0f} KB, {difference:.1g} from torch"


def _round() -> str:
    import numpy as np

    from fedspeech.privacy.plan import PrivacyPlan
    from fedspeech.secagg.keys import IdentityDirectory
    from fedspeech.secagg.primitives import SharedPrimitives
    from fedspeech.secagg.session import sum_vectors
    from fedspeech.seeds import NoiseEntropy
    from simulations.report.phrasing import epsilon

    plan = PrivacyPlan(dropout_rate=0.0,
        dimension=100, clip_norm=1.0, noise_multiplier=1.0, population=400,
        participation_probability=0.25, rounds=1, max_participations=1, min_cohort=70,
        min_reporting=70,
        delta=1e-4, epsilon_budget=100.0, secure_aggregation="masked",
    )  # fmt: skip
    entropy, delta = NoiseEntropy.os(), np.full(100, 0.05, np.float32)
    sent = {
        phone: plan.privatize(
            delta,
            rotation_seed=bytes(32),
            rounding=entropy.keystream("rounding"),
            noise=entropy.keystream("noise"),
        )
        for phone in range(100)
    }
    opened = sum_vectors(
        sent,
        terms=plan.terms(os.urandom(16), 0),
        purpose=bytes(32),
        identities=IdentityDirectory(os.urandom(32), b"doctor", 100),
        primitives=SharedPrimitives(),
    )
    mean = plan.decode(opened.total, rotation_seed=bytes(32)).mean
    return (
        f"{len(opened.reporting)} phones masked, mean {mean.mean():.3f} of 0.05 sent, "
        f"epsilon {epsilon(plan.guarantee(1).epsilon_release)}"
    )
