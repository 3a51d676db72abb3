"""How many clips the synthesizer makes per CPU-second, device chain included.

python benchmarks/synthesis.py [--clips 2000] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

from fedspeech.audio.channel import apply_devices
from fedspeech.corpora.synthetic import SyntheticCorpus, pretraining_spec
from fedspeech.synthesis.formants import word_clips
from fedspeech.synthesis.lexicon import DEFAULT_TARGETS


def cpu_seconds(work: Callable[[], object]) -> float:
    """Best of three runs."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2_000)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args()

    start = time.process_time()
    corpus = SyntheticCorpus(pretraining_spec(DEFAULT_TARGETS, seed=1, num_public=1_000))
    utterances = corpus.utterances
    listed = time.process_time() - start
    start = time.process_time()
    for utterance in utterances:
        corpus.fingerprint(utterance)
    hashed = time.process_time() - start

    chosen = utterances[: options.clips]
    takes, devices = zip(*map(corpus.recipe, chosen), strict=True)
    seeds = [take.seed for take in takes]
    num_samples = corpus.spec.frontend.clip_samples
    corpus.waveforms(chosen[:100])  # tables are made once
    clips = word_clips(takes, num_samples)
    figures = {
        "clips": len(chosen),
        "clips_per_cpu_second": len(chosen) / cpu_seconds(lambda: corpus.waveforms(chosen)),
        "synthesis_us_per_clip": 1e6
        * cpu_seconds(lambda: word_clips(takes, num_samples))
        / len(chosen),
        "devices_us_per_clip": 1e6
        * cpu_seconds(lambda: apply_devices(clips, devices, seeds))
        / len(chosen),
        "utterances": len(utterances),
        "listing_cpu_seconds": listed,
        "fingerprint_cpu_seconds": hashed,
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:>26} {value:12.2f}" if isinstance(value, float) else f"{name:>26} {value:12}")


if __name__ == "__main__":
    main()
