"""Reads the adapter out of a model file, as whoever gets the file can.

An exporter writes the values of a last layer as they are. Its output for the public adapter says
where: the attacker looks for the public values among the bytes of the public file, and reads the
same places of the other file. No format is parsed, and no code of the exporter is needed.
"""

from __future__ import annotations

import numpy as np

from fedspeech.vectors import FloatVector, ParameterSpec


def read_adapter(
    file: bytes, public_file: bytes, public: FloatVector, spec: ParameterSpec
) -> FloatVector:
    """The adapter in a file, shape (d,), float32.

    Args:
      file: that left a phone.
      public_file: the same kind of file, of the public adapter.
      public: the adapter in it, shape (d,).
      spec: names the parts of an adapter.

    Raises:
      ValueError: if a part of the public adapter is not in its file exactly once, or the files are
        not laid out alike.
    """
    if len(file) != len(public_file):
        raise ValueError(f"expected {len(public_file)} bytes as in the public file, {len(file)=}")
    found = {}
    for name, value in spec.unflatten(public).items():
        wanted = np.ascontiguousarray(value, dtype="<f4").tobytes()
        if (count := public_file.count(wanted)) != 1:
            raise ValueError(f"{name} of the public adapter is in its file {count} times")
        start = public_file.index(wanted)
        part = file[start : start + len(wanted)]
        found[name] = np.frombuffer(part, dtype="<f4").reshape(value.shape)
    return spec.flatten(found)
