"""The Fréchet distance has its closed form for Gaussians, and torchmetrics agrees."""

import numpy as np
import pytest
import torch

from unclouded.errors import UncloudedError, UsageError
from unclouded.evaluation.evaluate import Images
from unclouded.evaluation.fid import FeatureStatistics, frechet_distance
from unclouded.evaluation.whole import Whole, load_features


def statistics(vectors: np.ndarray) -> FeatureStatistics:
    found = FeatureStatistics()
    for vector in vectors:
        found.feed(vector)
    return found


def test_shifted_and_scaled_clouds_of_points_have_the_closed_form():
    x = np.random.default_rng(0).normal(size=(500, 4))
    assert frechet_distance(statistics(x), statistics(x)) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(statistics(x + np.array([3, 0, 0, 4])), statistics(x)) == pytest.approx(25)
    # tr(4Σ + Σ − 2·2Σ) = tr Σ, and the mean doubles
    expected = np.trace(np.cov(x, rowvar=False)) + (x.mean(0) ** 2).sum()
    assert frechet_distance(statistics(2 * x), statistics(x)) == pytest.approx(expected)


def test_it_is_torchmetrics_distance():
    from torchmetrics.image.fid import _compute_fid

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(40, 6)), rng.normal(0.3, 1.4, size=(50, 6))
    parts = [torch.from_numpy(p) for x in (a, b) for p in (x.mean(0), np.cov(x, rowvar=False))]
    expected = float(_compute_fid(*parts))
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(expected, rel=1e-6)


class Colours(torch.nn.Module):
    """A feature network that tells an image's mean colour."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean(dim=(2, 3))


def test_a_feature_network_from_a_file(tmp_path):
    program = torch.export.export(Colours(), (torch.zeros(1, 3, 8, 8, dtype=torch.uint8),))
    torch.export.save(program, tmp_path / "net.pt2")
    whole = Whole.open("paper", None, tmp_path / "net.pt2")
    rng = np.random.default_rng(2)
    clear = [rng.random((3, 8, 8), np.float32) * 0.5 for _ in range(5)]
    for image in clear:
        whole.feed(Images(image + np.float32(20 / 255), image, None))
    assert whole.result()["fid"] == pytest.approx(3 * 20**2, rel=0.02)
    image = np.full((3, 8, 8), 0.2)
    np.testing.assert_allclose(load_features(tmp_path / "net.pt2")(image), [51, 51, 51])


def test_what_cannot_be_measured_is_said(tmp_path):
    with pytest.raises(UsageError, match="was given 1 images"):
        frechet_distance(statistics(np.zeros((1, 3))), statistics(np.zeros((2, 3))))
    with pytest.raises(UsageError, match=r"no network file .*FID needs Inception v3"):
        Whole.open("paper", None, tmp_path / "no.pt2")
    (tmp_path / "bad.pt2").write_bytes(b"x" * 100)
    with pytest.raises(UncloudedError, match=r"is not a torch\.export network"):
        load_features(tmp_path / "bad.pt2")
