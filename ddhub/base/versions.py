"""Versions and device that results depend on, read without importing torch."""

import importlib.metadata
import os
import platform
from pathlib import Path

from ddhub.base.units import counted

LIBRARIES = ("torch", "timm", "datasets", "huggingface-hub")
DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder per GPU, where NVIDIA's driver is loaded


def summary() -> str:
    """Python, libraries and device, one line each."""
    installed = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    gpus = len(list(DRIVER.iterdir())) if DRIVER.is_dir() else 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = f"{counted(gpus, 'NVIDIA GPU')}, " if gpus else ""
    return f"Python {platform.python_version()}, {', '.join(installed)}\ndevice: {device}{cores} CPU threads"
