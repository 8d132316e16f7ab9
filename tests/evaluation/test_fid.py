"""The Fréchet distance has its closed form for Gaussians, and torchmetrics agrees."""

import numpy as np
import pytest
import torch

from unclouded.errors import UncloudedError, UsageError
from unclouded.evaluation import inception
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


def by_formula() -> dict[str, torch.Tensor]:
    """Weights for Inception that need no file: waves, scaled so that no block fades or blows up."""
    state = {}
    for number, (name, tensor) in enumerate(inception.Inception().state_dict().items()):
        wave = torch.sin(0.7 * torch.arange(tensor.numel(), dtype=torch.float64) + number).reshape(tensor.shape)
        fan_in = max(1, tensor[0].numel()) if tensor.ndim else 1
        scale, middle = {"weight": (0.1, 1.0), "running_var": (0.2, 1.0)}.get(name.rsplit(".", 1)[-1], (0.1, 0.0))
        state[name] = (wave * (1.2 / fan_in**0.5 if tensor.ndim == 4 else scale) + middle * (tensor.ndim == 1)).to(
            tensor
        )
    return state


def picture() -> torch.Tensor:
    rows, cols = torch.arange(50.0)[:, None], torch.arange(37.0)
    return torch.stack([127 + 120 * torch.sin(rows / a + cols / b) for a, b in ((3, 7), (11, 2), (5, 5))]).to(
        torch.uint8
    )[None]


def test_inception_is_torch_fidelitys(tmp_path):
    """Features of FeatureExtractorInceptionV3 (torch-fidelity 0.4.0) with the same weights, printed there."""
    torch.save(by_formula() | {"fc.weight": torch.zeros(1008, 2048)}, tmp_path / "inception.pth")
    network = inception.load(tmp_path / "inception.pth")
    with torch.no_grad():
        found = network(picture())[0]
    expected = [0.294413, 0.068211, 0.0, 0.139935, 0.0, 0.046999, 0.043941, 0.0]
    torch.testing.assert_close(found[::256], torch.tensor(expected), atol=2e-6, rtol=1e-4)
    assert float(found.mean()) == pytest.approx(0.043714, rel=1e-4)
    assert float(found.std()) == pytest.approx(0.060823, rel=1e-4)
    image = picture()[0].numpy() / 255
    torch.testing.assert_close(torch.from_numpy(load_features(tmp_path / "inception.pth")(image)).float(), found)


def test_images_of_its_own_size_are_not_resized():
    x = torch.rand(1, 3, 299, 299)
    torch.testing.assert_close(inception.resized(x), x)
    ramp = torch.arange(598.0).expand(1, 1, 598, 598)
    torch.testing.assert_close(inception.resized(ramp)[0, 0, 7], 2 * torch.arange(299.0))


def test_what_cannot_be_measured_is_said(tmp_path):
    with pytest.raises(UsageError, match="was given 1 images"):
        frechet_distance(statistics(np.zeros((1, 3))), statistics(np.zeros((2, 3))))
    with pytest.raises(UsageError, match=r"no network file .*FID needs Inception v3.*Download https"):
        Whole.open("paper", None, tmp_path / "no.pt2")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UncloudedError, match=r"does not hold Inception v3 .*Download https://github\.com/toshas"):
        load_features(tmp_path / "other.pth")
    (tmp_path / "bad.pt2").write_bytes(b"x" * 100)
    with pytest.raises(UncloudedError, match=r"is not a torch\.export network"):
        load_features(tmp_path / "bad.pt2")
