"""The priors that Table V compares with: sizes, ranges, laws of each design, and that each learns."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from unclouded.errors import UsageError
from unclouded.models.discriminators import PatchGAN
from unclouded.models.priors.amgan import AMGAN
from unclouded.models.priors.cvae import CVAE, gaussian_kl
from unclouded.models.priors.memorynet import MemoryNet, contrast, edges
from unclouded.models.priors.pix2pix import Pix2Pix
from unclouded.models.priors.spagan import cloud_map
from unclouded.models.registry import PRIORS, build_prior

SMALL = {
    "amgan": {"features": 8, "blocks": 2},
    "cvae": {"channels": 16, "depth": 1, "heads": 2, "latent": 4},
    "pix2pix": {"features": 4, "levels": 4},
    "memorynet": {"features": 8, "unet_step": 4, "ors_step": 4, "blocks": 1},
    "spagan": {"features": 8},
    "msda": {"features": 8},
}


@pytest.mark.parametrize(
    ("name", "count"), [("amgan", 238_148), ("cvae", 15_561_795), ("pix2pix", 54_413_955), ("memorynet", 3_637_249)]
)
def test_sizes(name, count):
    """pix2pix 54.41 M is its paper's; AMGAN-CR 0.24 M and CVAE 15.56 M are our widths at the size reported for them."""
    with torch.device("meta"):
        assert sum(p.numel() for p in build_prior(name, bands=3).parameters()) == count


def test_the_discriminator_has_the_papers_size_and_view():
    net = PatchGAN()
    assert sum(p.numel() for p in net.parameters()) == 2_768_705
    net.eval()
    y, x = torch.rand(1, 3, 96, 96), torch.rand(1, 3, 96, 96, requires_grad=True)
    net(y, x)[0, 0, 5, 5].backward()
    seen = x.grad.abs().sum((0, 1)).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [70, 70]
    with pytest.raises(UsageError, match="16×96 pixels is too small"):
        net(y[:, :, :16], x[:, :, :16])


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (17, 32)])
@pytest.mark.parametrize("name", SMALL)
def test_any_size_and_band_count(name, size):
    assert name in PRIORS
    net = build_prior(name, bands=4, **SMALL[name]).eval()
    y = torch.rand(2, 4, *size)
    with torch.no_grad():
        x = net(y)
        assert x.shape == y.shape
        assert ((x >= 0) & (x <= 1)).all()
        torch.testing.assert_close(net(y[1:]), x[1:], rtol=1e-4, atol=1e-5)  # no matter what else is in the batch
        assert torch.equal(net(y), x)


def test_attention_is_fed_back():
    """Each pass of AMGAN-CR sees its last map: the maps differ, and with one pass only the first is made."""
    y = torch.rand(1, 3, 8, 8)
    many, one = AMGAN(features=8, blocks=1), AMGAN(features=8, blocks=1, passes=1)
    one.load_state_dict(many.state_dict())
    maps, (first,) = many.restore(y)[1], one.restore(y)[1]
    assert len(maps) == 4
    assert torch.equal(maps[0], first)
    assert not torch.allclose(maps[0], maps[3])


def test_pix2pix_drops_out_where_its_decoder_is_widest():
    """Isola et al., appendix 6.1.2: in the first of the decoder's layers, never in the image."""
    for levels, dropping in ((8, {4, 5, 6}), (6, {4}), (4, set())):
        ups = Pix2Pix(features=2, levels=levels).ups
        assert {i for i, up in enumerate(ups) if up.dropout.p} == dropping


def test_cloud_map_is_where_images_differ():
    x0 = torch.full((1, 3, 4, 4), 0.3)
    y = x0.clone()
    y[..., :2] += 0.2
    y[..., 3] += 0.05  # a haze below the limit
    assert torch.equal(cloud_map(y, x0)[0, 0], torch.tensor([1.0, 1, 0, 0]).expand(4, 4))


def test_several_decodes_spread_as_the_prior_does():
    net = CVAE(**SMALL["cvae"]).eval().requires_grad_(False)
    y = torch.rand(1, 3, 9, 12)
    noise = list(torch.randn(3, 1, net.latent, 2, 2))
    draws = net.sample(y, noise)
    assert draws.shape == (3, 1, 3, 9, 12)
    assert draws.std(0).max() > 0
    assert torch.equal(draws, net.sample(y, noise))
    torch.nn.init.constant_(net.prior.bias[4:], -60.0)  # a certain prior: all decodes are the call's answer
    torch.nn.init.zeros_(net.prior.weight[4:])
    torch.testing.assert_close(net.sample(y, noise[:2]), net(y).expand(2, -1, -1, -1, -1))


def test_kl_is_that_of_normal_distributions():
    a, b, c, d = torch.randn(4, 2, 3, 4, 4)
    expected = kl_divergence(Normal(a, (b / 2).exp()), Normal(c, (d / 2).exp())).mean()
    torch.testing.assert_close(gaussian_kl(a, b, c, d), expected)


def test_contrast_prefers_the_positive_sample():
    clear, cloudy = torch.rand(2, 1, 3, 8, 8)
    assert contrast(clear, clear, cloudy) == 0
    assert contrast(cloudy, clear, cloudy) > contrast(clear.lerp(cloudy, 0.5), clear, cloudy) > 0


def test_edges_of_a_ramp_are_none():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    assert edges(ramp)[..., 1:-1].abs().max() == 0
    assert edges(torch.eye(8)[None, None])[0, 0, 3, 3] == -1


@pytest.mark.parametrize("name", ["memorynet", "cvae"])
def test_own_losses_fall(name):
    """A veil over smooth images goes away within a few steps of the paper's own loss terms."""
    net = build_prior(name, bands=3, **SMALL[name])
    x0 = torch.nn.functional.interpolate(torch.rand(4, 3, 4, 4), size=16, mode="bilinear") * 0.6
    y = 0.5 * x0 + 0.45
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    totals = []
    for _ in range(25):
        total = torch.stack(list(net.training_losses(y, x0).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]


def test_training_losses_accept_sizes_that_need_padding():
    losses = MemoryNet(**SMALL["memorynet"]).training_losses(torch.rand(1, 3, 9, 13), torch.rand(1, 3, 9, 13))
    assert set(losses) == {"charbonnier", "edge", "contrast"}
    assert Pix2Pix(**SMALL["pix2pix"]).eval()(torch.rand(1, 3, 9, 13)).shape == (1, 3, 9, 13)
