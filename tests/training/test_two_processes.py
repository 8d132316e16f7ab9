"""Training in two processes (`--devices 2`), as a user starts it: the same steps as in one, and the same end."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unclouded.datasets.simulated import SimulationOptions, simulate_pairs

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

SETTINGS = {
    "stages.prior.batch_size": 4,
    "stages.prior.size": 32,
    "stages.prior.last_size": "null",
    "model.prior_options": "{channels: [8, 16], blocks: [1, 1]}",
}


def train(data: Path, out: Path, devices: int, *more: str, **settings: object) -> subprocess.CompletedProcess[str]:
    sets = [f"--set={key}={value}" for key, value in {**SETTINGS, **settings}.items()]
    command = [sys.executable, "-m", "unclouded", "train", "own", "--data", str(data), "--out", str(out)]
    command += ["--stage", "prior", "--device", "cpu", "--devices", str(devices), "--precision", "fp32"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *more, *sets], env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    list(simulate_pairs(folder, landscapes=4, options=SimulationOptions(size=48)))
    return folder


def test_two_processes_take_the_steps_of_one(pairs: Path, tmp_path: Path) -> None:
    states = []
    for devices in (1, 2):
        out = tmp_path / str(devices)
        done = train(pairs, out, devices, "--json", **{"stages.prior.steps": 3, "stages.prior.validate_every": 3})
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["step"] == 3  # said once
        assert done.stderr.count(f"Finished. The model is {out / 'own.safetensors'}.") == 1
        assert "Warning" not in done.stderr
        states.append(torch.load(out / "prior.ckpt", weights_only=True)["model"]["prior"])
    torch.testing.assert_close(states[1], states[0], atol=1e-6, rtol=1e-5)


def test_both_end_when_the_time_is_up(pairs: Path, tmp_path: Path) -> None:
    """Even while the first alone validates, after each step here. A busy machine may not get to a step at first."""
    for minutes in (0.1, 0.4, 1.6):
        done = train(pairs, tmp_path, 2, "--max-minutes", str(minutes), **{"stages.prior.validate_every": 1})
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert re.search(r"Time is up .*; not finished: prior\. The same command goes on from there\.", done.stderr)
        if torch.load(tmp_path / "prior.ckpt", weights_only=True)["step"] > 0:
            return
    pytest.fail("no step in 96 seconds")
