"""Costs: counted against closed forms; Table X's parameter counts where the architecture is the paper's."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from unclouded.errors import UsageError
from unclouded.evaluation.complexity import count_macs, count_parameters, measure
from unclouded.models.de import DE, DEConfig, paper_config
from unclouded.models.registry import build_prior
from unclouded.models.unet import UNetConfig
from unclouded.sampling import Sampling


def test_multiply_accumulates_are_counted_as_papers_do():
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert count_macs(conv, torch.zeros(1, 3, 10, 12)) == 3 * 8 * 9 * 10 * 12
    assert count_macs(nn.Linear(7, 5), torch.zeros(4, 7)) == 4 * 7 * 5


# Table X of the DE paper, in millions; the published SpA-GAN and MSDA-CR also hold tensors that have no effect
@pytest.mark.parametrize(
    ("name", "published", "ours"), [("memorynet", 3.64, 3.64), ("spagan", 0.22, 0.203), ("msda", 3.91, 2.903)]
)
def test_priors_have_the_papers_size_or_less(name, published, ours):
    millions = count_parameters(build_prior(name, bands=3))["total"] / 1e6
    assert millions == pytest.approx(ours, abs=0.005)
    assert millions < published + 0.005


def test_de_has_the_papers_size():
    with torch.device("meta"):
        counts = count_parameters(DE(paper_config(bands=3, prior="spagan")))
    assert (counts["cnp"] + counts["wa"]) / 1e6 == pytest.approx(36.80, abs=0.005)
    assert counts["total"] == sum(counts[part] for part in ("prior", "cnp", "wa"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such small networks only lose by sharing
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def small() -> DE:
    net = {"channels": 32, "res_blocks": 1, "multipliers": (1,), "attention": (), "heads": 1}
    options = {"channels": (8, 8), "blocks": (1, 1)}
    return DE(
        DEConfig(bands=3, prior="light", prior_options=options, cnp=UNetConfig(6, 3, **net), wa=UNetConfig(9, 3, **net))
    )


def test_an_image_costs_its_prior_once_and_every_step(small):
    two, five = (measure(small, Sampling(steps=n), size=(32, 32), repeats=1) for n in (2, 5))
    assert two.gmac_step == five.gmac_step
    assert two.gmac_image == pytest.approx(two.gmac_prior + 2 * two.gmac_step)
    assert five.gmac_image - two.gmac_image == pytest.approx(3 * two.gmac_step)
    assert two.gflop_image == 2 * two.gmac_image
    copies = measure(small, Sampling(steps=2, self_ensemble=4), size=(32, 32), repeats=1)
    assert copies.gmac_image - two.gmac_image == pytest.approx(3 * two.gmac_prior)
    wide = measure(small, Sampling(steps=2, margin=16), size=(32, 32), repeats=1)
    assert wide.gmac_image == measure(small, Sampling(steps=2), size=(64, 64), repeats=1).gmac_image
    scales = measure(small, Sampling(steps=2, scales=2), size=(64, 64), repeats=1)
    large = measure(small, Sampling(steps=2), size=(64, 64), repeats=1)
    assert (scales.gmac_prior, scales.gmac_step) == (large.gmac_prior, large.gmac_step)
    assert scales.gmac_image == pytest.approx(large.gmac_image + two.gmac_image)
    assert two.images_per_second > five.images_per_second
    assert two.peak_memory_mb is None or two.peak_memory_mb >= 0


def test_four_times_the_pixels_cost_four_times_the_convolutions(small):
    a, b = (measure(small, Sampling(steps=1), size=(n, n), repeats=1).gmac_step for n in (32, 64))
    assert b / a == pytest.approx(4, rel=0.02)  # the time embedding is the rest


def test_no_repeats_is_wrong_use(small):
    with pytest.raises(UsageError, match="0 repeats measure nothing"):
        measure(small, Sampling(steps=1), repeats=0)
