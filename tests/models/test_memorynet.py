"""MemoryNet against the authors' code (golden tensors), its size, and the laws every prior keeps."""

import torch

from unclouded.models.authors import import_checkpoint
from unclouded.models.priors.memorynet import MemoryNet


def test_equals_the_authors_network(golden_dir, golden):
    prior = import_checkpoint(golden_dir / "memorynet_rgb.weights.safetensors").parts["prior"]
    io = golden("memorynet_rgb")
    torch.testing.assert_close(prior(io["x"]), io["y"], rtol=1e-4, atol=1e-6)


def test_has_the_papers_size():
    """3.64 M; the authors' file holds 54 numbers more, the one PReLU slope again in each of the other blocks."""
    assert sum(p.numel() for p in MemoryNet().parameters()) == 3_637_249
    assert sum(isinstance(module, torch.nn.PReLU) for module in MemoryNet().modules()) == 1


def test_stages_see_only_their_patch():
    """Stage 1's image of the top left quarter does not change with the bottom right one; stage 3's does."""
    net = MemoryNet(features=8, unet_step=4, ors_step=4, blocks=1)
    y = torch.rand(1, 3, 32, 32)
    other = y.clone()
    other[..., 16:, 16:] = 0
    first, _, third = net.stages(y)
    first_other, _, third_other = net.stages(other)
    torch.testing.assert_close(first[..., :16, :16], first_other[..., :16, :16])
    assert not torch.equal(third[..., :16, :16], third_other[..., :16, :16])


def test_without_a_tail_the_input_comes_back():
    """The last stage adds a correction to its input, which padding and cropping leave in place."""
    net = MemoryNet(bands=5, features=8, unet_step=4, ors_step=4, blocks=1)
    torch.nn.init.zeros_(net.tail.weight)
    for height, width in ((1, 1), (7, 3), (9, 33), (16, 8)):
        y = torch.rand(2, 5, height, width)
        assert torch.equal(net(y), y)
