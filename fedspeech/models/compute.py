"""Where tensors are computed: the CPU, or an accelerator for encoder passes and cohorts.

The device is a matter of one process and no part of a job: nodes of one run may differ. Bits are
promised on CPUs only; an accelerator's results agree with them within 1e-4 of an output's size,
since it adds in another order.

    with computing_on("cuda"):
        outputs = base.encoder_output(heard)        # computed there, returned to the CPU
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import torch

from fedspeech.corpora.corpus import OutputUnit
from fedspeech.errors import ScenarioError

VARIABLE = "FEDSPEECH_DEVICE"
"""Names the device in the environment, which worker processes and nodes inherit."""

_NAMES = r"cpu|mps|cuda(:\d+)?"


def compute_device() -> torch.device:
    """The device of this process: the one that the environment names, else the CPU.

    Raises:
      ScenarioError: if there is no such device, naming those that there are.
    """
    name = os.environ.get(VARIABLE) or "cpu"
    if not re.fullmatch(_NAMES, name):
        raise ScenarioError(f"a device is cpu, mps, cuda or cuda:NUMBER, got {name!r:.40}")
    if name == "cpu":
        return torch.device(name)
    if name not in (found := accelerators()):
        raise ScenarioError(
            f"this torch ({torch.__version__}) finds no device {name}; there are "
            f"{', '.join(['cpu', *found])}"
        )
    # A float32 product rounded to ten bits, as cuDNN's default is, would be a thousandth off.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device(name)


def check_computable(output_unit: OutputUnit) -> None:
    """Refuses what the device of this process cannot compute.

    Raises:
      ScenarioError: for sentences on mps, since CTC is computed in float64 and mps has none.
    """
    if output_unit == "frame" and compute_device().type == "mps":
        raise ScenarioError("sentences train on cpu or cuda, got mps, which has no float64 for CTC")


def accelerators() -> list[str]:
    """Names of the accelerators that torch finds here."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = ["cuda"] * bool(count) + [f"cuda:{number}" for number in range(count)]
    return found + ["mps"] * torch.backends.mps.is_available()


@contextlib.contextmanager
def computing_on(name: str | None) -> Iterator[None]:
    """Computes on a device, also in processes that are started meanwhile; None changes nothing.

    Raises:
      ScenarioError: if there is no such device.
    """
    before = os.environ.get(VARIABLE)
    if name is not None:
        os.environ[VARIABLE] = name
    try:
        compute_device()
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def notice() -> str | None:
    """What a run says of an accelerator; None on the CPU."""
    device = compute_device()
    if device.type == "cpu":
        return None
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return (
        f"encoder and cohorts are computed on {device}{name}: results agree with a CPU's within "
        "1e-4, and the same bits again are promised on CPUs only"
    )
