"""The light prior: any size, any bands, identity before training, and a whole image's view."""

import pytest
import torch

from unclouded.models.priors.light import Light


@pytest.mark.parametrize("bands", [1, 3, 4, 13])
@pytest.mark.parametrize("size", [(1, 1), (1, 37), (101, 53), (64, 64)])
def test_untrained_it_is_the_identity_at_any_size(bands: int, size: tuple[int, int]) -> None:
    y = torch.rand(2, bands, *size)
    for gain in (False, True):
        torch.testing.assert_close(Light(bands, channels=(8, 8, 8), blocks=(1, 1, 1), gain=gain).eval()(y), y)


def test_its_gain_undoes_a_veil() -> None:
    """y = a·x + b with one a and b for each band: x = y / a − b / a whatever the ground, from two numbers a band."""
    net = Light(2, channels=(8, 8), blocks=(1, 1), gain=True).eval()
    a, b = torch.tensor([0.5, 0.8]), torch.tensor([0.3, 0.1])
    assert net.gain is not None
    with torch.no_grad():
        net.gain.bias.copy_((1 / a - 1).repeat_interleave(4))
        net.head.bias.copy_(((0.5 - b) / a - 0.5).repeat_interleave(4))
    x = torch.rand(1, 2, 16, 16)
    veiled = a[:, None, None] * x + b[:, None, None]
    torch.testing.assert_close(net(veiled), x)


def test_its_answer_is_clamped_in_use_and_free_in_training() -> None:
    net = Light(3, channels=(8, 8), blocks=(1, 1))
    with torch.no_grad():
        net.head.bias.fill_(2.0)  # type: ignore[union-attr]
    y = torch.rand(1, 3, 16, 16)
    assert net.train()(y).max() > 1
    torch.testing.assert_close(net.eval()(y), torch.ones_like(y))


def test_every_pixel_sees_a_cloud_far_away() -> None:
    net = Light(3, channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1)).eval()
    torch.nn.init.normal_(net.head.weight)
    y = torch.rand(1, 3, 96, 96) * 0.2 + 0.4
    clouded = y.clone()
    clouded[..., :16, :16] = 1
    assert (net(y) - net(clouded))[..., 80:, 80:].abs().max() > 1e-7


def test_its_default_size_suits_a_cpu() -> None:
    assert sum(p.numel() for p in Light().parameters()) < 4e6
