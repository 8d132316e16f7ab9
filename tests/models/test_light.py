"""The light network. As prior: any size and bands, the identity untrained, a whole image's view. As CNP: told of t."""

import pytest
import torch

from unclouded.errors import UsageError
from unclouded.models.light import LightCNP, LightConfig
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


def small_cnp(**options: object) -> LightCNP:
    torch.manual_seed(0)
    net = LightCNP(LightConfig(**{"in_channels": 6, "out_channels": 3, "widths": (8, 16), "blocks": (1, 1)} | options))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.2)
    return net


@pytest.mark.parametrize("gain", [False, True])
def test_an_untrained_cnp_answers_nothing(gain: bool) -> None:
    net = LightCNP(LightConfig(6, 3, widths=(8, 16), blocks=(1, 1), gain=gain))
    assert not net(torch.randn(2, 6, 16, 32), torch.tensor([5, 900])).any()


def test_a_cnp_is_told_of_each_images_time() -> None:
    net = small_cnp()
    x = torch.randn(1, 6, 16, 32).expand(3, -1, -1, -1)
    early, late, again = net(x, torch.tensor([5, 900, 5]))
    assert (early - late).abs().max() > 1e-3
    torch.testing.assert_close(early, again)
    torch.testing.assert_close(net(x, torch.tensor([900]).expand(3))[1], late)  # embedded once for the batch


def test_the_gain_of_a_cnp_multiplies_y() -> None:
    """With r = 0 and g = 2 everywhere, whatever x_t."""
    net = small_cnp(gain=True)
    assert net.gain is not None
    with torch.no_grad():
        for parameter in (*net.head.parameters(), net.gain.weight):
            parameter.zero_()
        net.gain.bias.fill_(2)  # type: ignore[union-attr]
    x_t, y = torch.randn(2, 3, 16, 32), torch.rand(2, 3, 16, 32) * 2 - 1
    torch.testing.assert_close(net(torch.cat((x_t, y), dim=1), torch.tensor([5, 900])), 2 * y)


def test_a_cnp_attends_from_corner_to_corner() -> None:
    """One block at the bottom sees 5 of 16 places; the far corner is seen by attention (the means are kept equal)."""
    net = small_cnp().eval()
    for module in net.modules():
        if hasattr(module, "project"):  # channel attention, which sees all places' mean
            torch.nn.init.zeros_(module.project.weight)
        if isinstance(module, torch.nn.GroupNorm) and module is not net.attention.norm:
            module.forward = lambda x: x  # type: ignore[method-assign]
    x = torch.randn(1, 6, 64, 64)
    other = x.clone()
    other[..., :8, :8] *= 3
    t = torch.tensor([5])
    far = (net(x, t) - net(other, t))[..., 56:, 56:].abs().max()
    torch.nn.init.zeros_(net.attention.out.weight)
    assert far > 1e-5
    assert (net(x, t) - net(other, t))[..., 56:, 56:].abs().max() < 1e-7 + far / 100


@pytest.mark.parametrize("options", [{"blocks": (1,)}, {"widths": (), "blocks": ()}, {"heads": 3}, {"blocks": (1, 0)}])
def test_a_light_network_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="cannot have"):
        small_cnp(**options)
