"""Where the optional material lies: golden tensors of the authors' code, and real imagery.

Tests skip where it is absent.
"""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Machines are shared and noisy: no test fails for being slow, and every run tries the same examples.
settings.register_profile("unclouded", deadline=None, derandomize=True)
settings.load_profile("unclouded")

ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set {variable} to run this test")
    return folder


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Weights with the authors' key names, and inputs and outputs of the authors' code."""
    return _folder("UNCLOUDED_GOLDEN", "golden")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real imagery (RICE, SEN12MS-CR, scenes) under its own terms."""
    return _folder("UNCLOUDED_DATA", "data")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
