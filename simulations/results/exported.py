"""What a run's exported files are, and how they were found to behave."""

from __future__ import annotations

from simulations.results.record import Count, Positive, Record, Share


class ExportedFile(Record):
    """The file for the phone, and how closely it computes what the trained model does.

    Attributes:
      file: name inside the run folder.
      size_bytes: its size.
      parity_max_abs: largest difference of a logit from the trained model.
      parity_limit: what was allowed.
      argmax_agreement: share of inputs with the same answer.
      inputs: how many were compared.
      speech_inputs: how many of them were speech.
      sha256: of the file, hex.
    """

    file: str
    size_bytes: Count
    parity_max_abs: Positive
    parity_limit: Positive
    argmax_agreement: Share
    inputs: Count
    speech_inputs: Count
    sha256: str | None = None


class FamilyFile(Record):
    """One file of the exported family: what passed, or why it was not published.

    Attributes:
      kind: which of the family: "float", "int8", "personal", ...
      file: its name.
      size_bytes: its size; None if it was refused.
      agreement: share of held-out clips, or of inputs, with the trained model's answer.
      accuracy_drop: mean over held-out users, in accuracy (1.0 = 100 points); None if every logit
        was compared instead.
      refused: why it was not published.
    """

    kind: str
    file: str
    size_bytes: Count | None = None
    agreement: Share | None = None
    accuracy_drop: float | None = None
    refused: str | None = None


class Listening(Record):
    """How often the streaming file is wrong while it listens, hop by hop.

    A threshold that lets few false accepts pass is chosen on the very hours that count them, so
    that its rate is the kinder one of the two.

    Attributes:
      file: its name.
      threshold: smoothed probability from which a word is detected.
      keywords: target words said by phones never trained on, each after its left context.
      rejected: how many of them were not found.
      hours: synthesized, without a target word: sentences, rooms, noises.
      false_accepts: detections in them.
      quiet_rate: false accepts per hour that a quieter threshold may have.
      quiet_threshold: the lowest with at most so many; None: none has so few.
      quiet_rejected: keywords that are not found at it.
    """

    file: str
    threshold: Share
    keywords: Count
    rejected: Count
    hours: Positive
    false_accepts: Count
    quiet_rate: Positive = 0.0
    quiet_threshold: Share | None = None
    quiet_rejected: Count | None = None
