"""Several cloudy dates and Sentinel-1 as condition, for DE and DiffCR alike: laws of the order, number and place."""

import pytest
import torch

from unclouded.errors import UncloudedError
from unclouded.models.base import RestorationModel
from unclouded.models.conditions import DateMerge, split_condition
from unclouded.models.de import DE, DEConfig, paper_config
from unclouded.models.diffcr import DiffCR, DiffCRConfig
from unclouded.models.unet import UNetConfig
from unclouded.restore import restore
from unclouded.sampling import Sampling

BANDS, FRAMES, SAR = 4, 3, 2
FEW = Sampling(sampler="dpm", steps=2, spacing="linspace")


def small(method: str, frames: int = FRAMES, sar: int = SAR) -> RestorationModel:
    """A little model whose every weight does something (fresh ones end in zeros)."""
    network = {"channels": 16, "res_blocks": 1, "multipliers": (1,), "attention": (), "heads": 1}
    if method == "diffcr":
        model = DiffCR(
            DiffCRConfig(bands=BANDS, frames=frames, sar=sar, width=4, encoder_blocks=(1,), decoder_blocks=(1,))
        )
    else:
        model = DE(
            DEConfig(
                bands=BANDS,
                frames=frames,
                sar=sar,
                prediction="residual" if method == "de-residual" else "eps",
                prior=None if method == "diffusion" else "light",
                prior_options={} if method == "diffusion" else {"channels": (8, 8), "blocks": (1, 1)},
                cnp=UNetConfig(2 * BANDS + sar, BANDS, **network),
                wa=None if method == "diffusion" else UNetConfig(3 * BANDS + sar, BANDS, **network),
            )
        )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.requires_grad_(False).eval()


@pytest.mark.parametrize("method", ["de", "de-residual", "diffusion", "diffcr"])
def test_the_order_of_the_dates_does_not_matter_and_all_of_y_does(method: str) -> None:
    model = small(method)
    y = torch.rand(1, FRAMES * BANDS + SAR, 12, 20)
    frames, radar = split_condition(y, BANDS, SAR)
    clear = restore(model, y, FEW).clear
    assert clear.shape == (1, BANDS, 12, 20)
    turned = torch.cat([frames[:, [2, 0, 1]].flatten(1, 2), radar], 1)
    torch.testing.assert_close(restore(model, turned, FEW).clear, clear, atol=1e-4, rtol=0)
    for n in range(0, y.shape[1], 2):  # every date, and the radar, has a say
        other = y.clone()
        other[:, n] = 1 - other[:, n]
        assert (restore(model, other, FEW).clear - clear).abs().max() > 1e-4


@pytest.mark.parametrize("method", ["de", "diffcr"])
def test_any_number_of_dates_and_no_dates_in_part(method: str) -> None:
    model = small(method)
    for n in (1, 2, 5):
        assert restore(model, torch.rand(1, n * BANDS + SAR, 8, 8), FEW).clear.shape == (1, BANDS, 8, 8)
    with pytest.raises(UncloudedError, match="11 bands are no whole number of frames of 4 bands and 2 of Sentinel-1"):
        restore(model, torch.rand(1, 11, 8, 8), FEW)


def test_merged_dates_lie_between_them_and_a_single_one_is_itself() -> None:
    merge = DateMerge(BANDS)
    dates = torch.rand(2, FRAMES, BANDS, 9, 7)
    with torch.no_grad():
        merged = merge(dates)
        torch.testing.assert_close(merge(dates[:, :1]), dates[:, 0])
    assert (merged >= dates.amin(1) - 1e-6).all()
    assert (merged <= dates.amax(1) + 1e-6).all()


def test_merging_learns_to_take_the_clear_pixels() -> None:
    """Dates whose clouds are elsewhere: after a short training the merged image is far nearer to the ground than the
    mean of the dates."""
    merge = DateMerge(BANDS, channels=8)
    optimizer = torch.optim.Adam(merge.parameters(), 1e-2)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        ground = 0.4 * torch.rand(4, 1, BANDS, 16, 16)
        cloud = (torch.rand(4, FRAMES, 1, 4, 4) < 0.4).float().repeat_interleave(4, 3).repeat_interleave(4, 4)
        return ground * (1 - cloud) + 0.9 * cloud, ground[:, 0]

    for _ in range(60):
        dates, ground = draw()
        loss = (merge(dates) - ground).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    dates, ground = draw()
    with torch.no_grad():
        assert (merge(dates) - ground).square().mean() < 0.4 * (dates.mean(1) - ground).square().mean()


def test_one_date_without_radar_is_the_papers_model() -> None:
    """No parameter more, and y goes to the networks as it is."""
    plain = DE(paper_config().model_copy(update={"prior": None, "wa": None}))
    y = torch.rand(1, 3, 4, 4)
    assert plain.dates is None
    assert plain.optical(y) is y
    assert plain.condition(y) is y


@pytest.mark.parametrize(("pooling", "gates"), [("both", 2), ("mean", 1), ("max", 1), ("none", 0)])
def test_block_variants_of_diffcr_have_the_gates_that_they_name(pooling: str, gates: int) -> None:
    config = DiffCRConfig(width=8, encoder_blocks=(1,), decoder_blocks=(1,), pooling=pooling)
    block = DiffCR(config).network.encoder[0][0]
    assert (block.by_mean is not None, block.by_max is not None) == (
        pooling in ("both", "mean"),
        pooling in ("both", "max"),
    )
    sizes = [sum(p.numel() for p in gate.parameters()) for gate in (block.by_mean, block.by_max) if gate is not None]
    assert sizes == [4 * 4 + 4] * gates
    x, time = torch.rand(1, 8, 6, 6), torch.rand(1, 256)
    assert block(x, time).shape == x.shape
