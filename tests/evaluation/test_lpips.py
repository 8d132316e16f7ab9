"""LPIPS equals torchmetrics' for the same backbone; what is missing is said with where to get it."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from unclouded.errors import UncloudedError, UsageError
from unclouded.evaluation import lpips


def random_alexnet() -> nn.Sequential:
    """torchvision's `alexnet().features`, layer for layer, with random weights."""
    torch.manual_seed(3)
    pool = {"kernel_size": 3, "stride": 2}
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(**pool)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(**pool)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(**pool)),
    )


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """The random network in both file formats."""
    folder = tmp_path_factory.mktemp("alexnet")
    tensors = {f"features.{k}": v for k, v in random_alexnet().state_dict().items()}
    save_file(tensors, folder / "alexnet.safetensors")
    torch.save(tensors | {"classifier.1.weight": torch.zeros(2)}, folder / "alexnet.pth")
    return folder


def images(seed: int = 0, side: int = 70) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clear = rng.random((3, side, side)).astype(np.float32)
    return np.clip(clear + rng.normal(0, 0.1, clear.shape), 0, 1).astype(np.float32), clear


@pytest.mark.parametrize("name", ["alexnet.safetensors", "alexnet.pth"])
def test_it_is_torchmetrics_lpips_for_the_same_backbone(backbone, name, monkeypatch):
    from torchmetrics.functional.image import lpips as oracle

    def features(net: str, pretrained: bool = False) -> nn.Sequential:
        return random_alexnet()

    monkeypatch.setattr(oracle, "_get_tv_model_features", features)
    # its weights were saved on a GPU; the published class loads them with map_location="cpu"
    reference = oracle._LPIPS(pretrained=True, net="alex", use_dropout=True).eval()
    ours = lpips.load(backbone / name)
    a, b = (2 * torch.from_numpy(x)[None] - 1 for x in images())
    with torch.inference_mode():
        torch.testing.assert_close(ours(a, b), reference(a, b).flatten(), rtol=1e-5, atol=1e-6)


def test_protocols_differ_in_the_range_that_the_network_sees(backbone):
    network = lpips.load(backbone / "alexnet.safetensors")
    a, b = images()
    x, y = torch.from_numpy(a)[None], torch.from_numpy(b)[None]
    with torch.inference_mode():
        assert network.score(a, b, "standard") == pytest.approx(float(network(2 * x - 1, 2 * y - 1)))
        assert network.score(a, b, "paper") == pytest.approx(float(network((255 * x).round(), (255 * y).round())))
    assert network.score(a, b, "paper") != network.score(a, b, "standard")
    assert network.score(b, b, "standard") == 0
    assert network.score(a, b, "standard") == pytest.approx(network.score(b, a, "standard"))


def test_bands_beyond_three_do_not_count_and_one_stands_for_three(backbone):
    network = lpips.load(backbone / "alexnet.safetensors")
    a, b = images()
    four = [np.concatenate([x, np.random.default_rng(9).random((1, 70, 70), np.float32)]) for x in (a, b)]
    assert network.score(*four, "standard") == network.score(a, b, "standard")
    grey = [x[:1] for x in (a, b)]
    assert network.score(*grey, "standard") == network.score(*(x.repeat(3, axis=0) for x in grey), "standard")


def test_what_is_missing_is_said_with_where_to_get_it(backbone, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"no network file .*Download https://download\.pytorch\.org"):
        lpips.load(tmp_path / "nowhere.pth")
    (tmp_path / "x.pth").write_bytes(b"not weights")
    with pytest.raises(UncloudedError, match="cannot be read as weights"):
        lpips.load(tmp_path / "x.pth")
    save_file({"other": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UncloudedError, match="does not hold torchvision's AlexNet"):
        lpips.load(tmp_path / "x.safetensors")
    with pytest.raises(UncloudedError, match="at least 31x31 pixels, not 20x20"):
        lpips.load(backbone / "alexnet.pth").score(*images(side=20), "standard")
    assert find_spec("torchmetrics") is not None
    monkeypatch.setattr(lpips, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'unclouded\[metrics\]'"):
        lpips.load(backbone / "alexnet.pth")
