"""Cloud-Net: its shapes and shortcuts, that it learns the simulator's clouds, and what its files refuse."""

import numpy as np
import pytest
import torch

from unclouded.errors import UncloudedError, UsageError
from unclouded.models import store
from unclouded.models.cloudnet import CloudNet, CloudNetConfig, Contract, feed_forward, load_cloud_net, save_cloud_net
from unclouded.scenes.landscape import landscape
from unclouded.training.cloudnet import draw, l_cloud_net, score_cloud_net, train_cloud_net

SMALL = CloudNetConfig(features=4, levels=2)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [landscape(np.random.default_rng(n), 96, 96, gsd=5.0)[:3] for n in range(4)]


@pytest.mark.parametrize("size", [(1, 1), (17, 30), (64, 32)])
def test_any_size_gives_a_probability_a_pixel(size: tuple[int, int]) -> None:
    model = CloudNet(SMALL).eval()
    with torch.no_grad():
        p = model(torch.rand(2, 3, *size))
    assert p.shape == (2, 1, *size)
    assert ((p > 0) & (p < 1)).all()


def test_a_contracting_block_without_its_main_path_is_its_shortcut() -> None:
    """x itself and the 1×1 convolution of it, side by side."""
    block = Contract(3).eval()
    torch.nn.init.zeros_(block.main[1][0].weight)
    x = torch.rand(1, 3, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(block(x), torch.cat((x, block.short(x)), 1))


def test_skips_carry_all_finer_levels() -> None:
    """Repeated to the channels and max-pooled to the size of the level, and summed."""
    fine, middle, coarse = torch.rand(1, 2, 8, 8), torch.rand(1, 4, 4, 4), torch.rand(1, 8, 2, 2)
    total = feed_forward([fine, middle, coarse])
    for channel in range(8):
        expected = coarse[0, channel, 1, 0] + middle[0, channel % 4, 2:, :2].max() + fine[0, channel % 2, 4:, :4].max()
        torch.testing.assert_close(total[0, channel, 1, 0], expected)


def test_targets_are_the_simulated_clouds(images: list[np.ndarray]) -> None:
    shares = []
    for n in range(40):
        x, target = draw(images, np.random.default_rng(n), 48)
        assert (x.shape, target.shape) == ((3, 48, 48), (1, 48, 48))
        assert 0 <= target.min() <= target.max() <= 1
        shares.append(target.mean())
    assert sum(share == 0 for share in shares) >= 3  # some have no cloud at all
    assert sum(share > 0.5 for share in shares) >= 3


def test_the_loss_is_least_for_the_truth() -> None:
    target = (torch.rand(2, 1, 8, 8) > 0.5).float()
    right, wrong = (l_cloud_net(20 * sign * (target - 0.5), target) for sign in (1, -1))
    assert right < 0.01
    assert wrong > 5
    assert l_cloud_net(torch.full_like(target, -20), torch.zeros_like(target)) < 0.01  # no cloud, none found


def test_it_learns(images: list[np.ndarray]) -> None:
    torch.manual_seed(0)
    model = CloudNet(SMALL)
    before = score_cloud_net(model.eval(), images, seed=9, count=24, side=48)
    losses = list(train_cloud_net(model, images, 40, batch_size=4, side=48, lr=1e-2))
    after = score_cloud_net(model, images, seed=9, count=24, side=48)
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    assert after.accuracy > max(before.accuracy, 0.75)
    assert after.jaccard > max(before.jaccard, 0.4)


def test_files_keep_the_network_and_refuse_others(tmp_path) -> None:
    model = CloudNet(SMALL).eval()
    path = tmp_path / "c.safetensors"
    save_cloud_net(path, model, "for tests", ("nothing",), 0)
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(load_cloud_net(path)(x), model(x), atol=2e-3, rtol=0)  # half precision
    with pytest.raises(UsageError, match="no method named 'cloud-net'"):
        store.load(path)
    card = store.read_card(path)
    store.with_card(path, tmp_path / "other.safetensors", card.model_copy(update={"method": "de"}))
    with pytest.raises(UncloudedError, match="a model of kind 'de', not Cloud-Net"):
        load_cloud_net(tmp_path / "other.safetensors")


@pytest.mark.slow
def test_the_shipped_network_finds_more_cloud_in_cloudy_images(data_dir) -> None:
    """On RICE's validation lists, which it has never seen, neither the images nor the sensor. Bright or flat ground
    also looks like a veil: pairs are compared, not levels."""
    from unclouded.datasets.pairs import read_pairs
    from unclouded.datasets.preparing.coverage import SHIPPED

    model = load_cloud_net(SHIPPED)

    def coverage(image: np.ndarray) -> float:
        with torch.inference_mode():
            return float(model(torch.from_numpy(image[None].astype(np.float32) / 255)).mean())

    for name, least, apart in (("rice1", 0.7, 0.2), ("rice2", 0.8, 0.05)):
        pairs = read_pairs(data_dir / name, f"{name}-val", name)
        found = np.array([[coverage(pair.read_cloudy()), coverage(pair.read_clear())] for pair in pairs])
        more = (found[:, 0] > found[:, 1]).mean()
        print(f"{name}: coverage {found[:, 0].mean():.2f} cloudy, {found[:, 1].mean():.2f} clear; more in {more:.2f}")
        assert more > least
        assert found[:, 0].mean() > found[:, 1].mean() + apart
