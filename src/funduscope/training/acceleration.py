"""What makes the steps of a training faster if the machine can: shorter floating point numbers, and a compiler."""

from __future__ import annotations

from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import nn

from funduscope.training import TrainingError, processes


def mixed_precision(precision: str) -> Literal["no", "bf16", "fp16"]:
    """What accelerate calls the recipe's precision. auto: see `settings.Training`."""
    if precision == "float16" and not torch.cuda.is_available():
        raise TrainingError("training.precision float16 needs a GPU: choose bfloat16, float32 or auto.")
    if bfloat16(precision):
        return "bf16"
    return "fp16" if precision == "float16" or (precision == "auto" and torch.cuda.is_available()) else "no"


def make_accelerator(precision: str) -> Accelerator:
    """What places a network and scales its losses. Raises `TrainingError` in a process of another precision."""
    named = mixed_precision(precision)
    processes.state()  # the accelerator takes it over
    try:
        return Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=named)
    except ValueError as error:  # accelerate has one state for the whole process
        raise TrainingError(
            f"This process has trained in another precision than {named}: start this training in a process of its own."
        ) from error


def bfloat16(precision: str) -> bool:
    """Whether to compute in bfloat16. auto: if the machine has instructions for it."""
    if precision != "auto":
        return precision == "bfloat16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16")) if hasattr(torch.cpu, "get_capabilities") else False


def compiled(network: nn.Module) -> Any:
    """The network by torch.compile, with the same parameters. Raises `TrainingError` if there is no compiler."""
    try:
        torch.compile(torch.neg)(torch.ones(1, device=next(network.parameters()).device))
    except Exception as error:  # the compilers' exceptions have no common base class
        reason = str(error).partition("\n")[0]
        raise TrainingError(
            f"training.compile needs a compiler, which torch could not use here: {reason}. Install one (on a processor "
            "g++), or set training.compile = false."
        ) from error
    return torch.compile(network)
