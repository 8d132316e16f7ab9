"""Inputs and outputs of the authors' code."""

import pytest
from safetensors.torch import load_file


@pytest.fixture(scope="session")
def golden(golden_dir):
    """`golden("msda_rgb")` is the dict of stored tensors beside that weight file; `x` goes in, `y` comes out."""
    return lambda name: load_file(golden_dir / f"{name}.io.safetensors")
