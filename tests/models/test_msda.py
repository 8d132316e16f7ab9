"""MSDA-CR against the authors' code (golden tensors), its size, and the laws every prior keeps."""

import pytest
import torch

from unclouded.models.authors import import_checkpoint
from unclouded.models.authors_files import read_state
from unclouded.models.priors.msda import MSDA, instance_norm


def test_equals_the_authors_network(golden_dir, golden):
    prior = import_checkpoint(golden_dir / "msda_rgb.weights.safetensors").parts["prior"]
    io = golden("msda_rgb")
    torch.testing.assert_close(prior(io["x"]), io["y"], rtol=1e-4, atol=1e-6)


def test_size_is_the_papers_less_what_has_no_effect(golden_dir):
    """3.91 M in the authors' file, of which 1.00 M is never used; ours has the 2.90 M that are."""
    path = golden_dir / "msda_rgb.weights.safetensors"
    state, imported = read_state(path), import_checkpoint(path)
    unused = sum(state[key].numel() for key in imported.skipped)
    ours = sum(p.numel() for p in imported.parts["prior"].parameters())
    assert (ours, unused) == (2_903_465, 1_004_249)
    assert ours + unused == sum(t.numel() for t in state.values()) == 3_907_714


def test_instance_norm_is_torchs():
    x = torch.rand(2, 3, 5, 7)
    torch.testing.assert_close(instance_norm(x), torch.nn.functional.instance_norm(x))


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (5, 7), (33, 18)])
def test_any_size_and_band_count(size):
    y = torch.rand(2, 4, *size)
    x = MSDA(bands=4)(y)
    assert x.shape == y.shape
    assert ((x > 0) & (x < 1)).all()


def test_every_parameter_but_the_free_weights_matters():
    """No dead layer: each parameter gets a gradient."""
    net = MSDA(bands=1, features=8)
    net(torch.rand(1, 1, 16, 16)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
    used = net.fusion.grad.ne(0).float()
    assert used[1, 1:, :, :16].mean() > 0.8  # row 1 is weighted in every column from 1 on (a channel may be dead)
    assert used[2, 3:].sum() == 0  # the last row has one source there
