"""SpA-GAN with the released weights, its size, band order, and the laws every prior keeps."""

import pytest
import torch

from unclouded.datasets.images import read_image
from unclouded.models.authors import import_checkpoint
from unclouded.models.authors_files import read_state
from unclouded.models.priors.spagan import SPAGAN, FourDirections


@pytest.mark.parametrize("data", ["rice1", "rice2"])
def test_released_weights_give_the_stored_output(golden_dir, golden, data):
    """The stored images are blue, green, red; ours go in and come out as red, green, blue."""
    prior = import_checkpoint(golden_dir / f"spagan_{data}.weights.safetensors").parts["prior"]
    io = golden(f"spagan_{data}")
    x, masks = prior.restore(io["x"].flip(1))
    torch.testing.assert_close(x, io["y"].flip(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(masks[3], io["attention"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prior(io["x"].flip(1)), io["y"].flip(1).clamp(0, 1), rtol=1e-4, atol=1e-5)


def test_band_order_can_be_told(golden_dir, golden):
    path = golden_dir / "spagan_rice1.weights.safetensors"
    io = golden("spagan_rice1")
    as_stored = import_checkpoint(path, band_order="rgb").parts["prior"]
    torch.testing.assert_close(as_stored(io["x"]), io["y"].clamp(0, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stem", ["105", "113"])
def test_released_weights_clear_real_images_in_our_band_order(golden_dir, data_dir, stem):
    """On RICE1 pairs, read as red, green, blue, they gain more than 8 dB; in the other order far less."""
    pair = [next((data_dir / "rice1" / part).glob(f"{stem}.*")) for part in ("cloud", "label")]
    y, x0 = (torch.from_numpy(read_image(path)).float()[None] / 255 for path in pair)

    def psnr(x):
        return -10 * (x - x0).square().mean().log10()

    path = golden_dir / "spagan_rice1.weights.safetensors"
    with torch.no_grad():
        ours, other = (psnr(import_checkpoint(path, band_order=o).parts["prior"](y)) for o in (None, "rgb"))
    assert ours > psnr(y) + 8
    assert ours > other + 3


def test_size_is_the_papers_less_what_has_no_effect(golden_dir):
    """0.22 M in the released file, of which 16,228 numbers have no effect."""
    path = golden_dir / "spagan_rice1.weights.safetensors"
    state, imported = read_state(path), import_checkpoint(path)
    unused = sum(state["gen.gen." + key].numel() for key in imported.skipped)
    ours = sum(p.numel() for p in imported.parts["prior"].parameters())
    assert (ours, unused) == (203_072, 16_228)
    assert ours + unused == sum(t.numel() for t in state.values()) == 219_300


def test_four_directions_carry_one_pixel_in_each():
    """A single bright pixel reaches its four neighbours, one in each group of channels."""
    turn = FourDirections(1)
    for layer in turn.children():
        torch.nn.init.constant_(layer.weight, 0.5)
        torch.nn.init.zeros_(layer.bias)
    x = torch.zeros(1, 1, 3, 3)
    x[..., 1, 1] = 1
    up, right, down, left = turn(x)[0]
    assert (up[2, 1], right[1, 0], down[0, 1], left[1, 2]) == (0.5, 0.5, 0.5, 0.5)
    assert turn(x).sum() == 6.0


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 7), (32, 19)])
def test_any_size_and_band_count(size):
    net = SPAGAN(bands=4)
    y = torch.rand(2, 4, *size)
    x, masks = net.restore(y)
    assert x.shape == y.shape
    assert [mask.shape for mask in masks] == [(2, 1, *size)] * 4
    assert torch.equal(net(y), x.clamp(0, 1))
