"""DiffCR learns, in both predictions and with several frames; its noise levels are those of the schedule."""

import pytest
import torch
import torch.nn.functional as F

from unclouded.diffusion.schedule import sigmoid
from unclouded.models.diffcr import DiffCR, DiffCRConfig
from unclouded.restore import restore
from unclouded.sampling import Sampling
from unclouded.training.diffcr import l_diffcr, noise_levels


def tiny(**options):
    return DiffCR(DiffCRConfig(width=8, encoder_blocks=(1, 1), decoder_blocks=(1, 1), **options))


def test_levels_are_uniform_between_neighbouring_steps():
    """Ranked, many draws lie on the schedule's own curve; none is 0 or 1."""
    gamma = noise_levels(tiny(), 20_000, torch.Generator().manual_seed(0)).double().sort(descending=True).values
    alpha_bar = sigmoid(2000).alpha_bar
    expected = alpha_bar[(torch.arange(20_000) * 2000 / 20_000).long()]
    assert (gamma - expected).abs().max() < 0.02
    assert ((gamma > 0) & (gamma < 1)).all()


def test_a_perfect_network_has_no_loss():
    model = tiny()
    x0 = torch.rand(2, 3, 8, 8)
    model.network.forward = lambda x, gamma, condition: 2 * x0 - 1
    assert l_diffcr(model, x0, x0, torch.Generator())["mse"] == 0


@pytest.mark.parametrize("prediction", ["x0", pytest.param("eps", marks=pytest.mark.slow)])
def test_it_learns_to_take_a_veil_away_with_three_frames(prediction):
    model = tiny(frames=3, prediction=prediction)
    generator = torch.Generator().manual_seed(0)
    x0 = F.interpolate(torch.rand(4, 3, 4, 4), size=16, mode="bilinear") * 0.6
    veils = torch.tensor([0.3, 0.5, 0.7]).view(1, 3, 1, 1, 1)
    y = ((1 - veils) * x0[:, None] + 0.9 * veils).flatten(1, 2)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    curve = []
    for _ in range(120):
        loss = l_diffcr(model, y, x0, generator)["mse"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    assert sum(curve[-10:]) < 0.5 * sum(curve[:10])
    if prediction == "eps":  # from pure noise, ε needs far longer training than a test has
        return
    with torch.no_grad():
        clear = restore(model.eval(), y, Sampling(sampler="dpm", steps=6, spacing="linspace")).clear
    assert F.l1_loss(clear, x0) < 0.7 * F.l1_loss(y[:, :3], x0)
