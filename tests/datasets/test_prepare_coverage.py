"""How cloudy the tiles of a prepared benchmark are: by brightening and by Cloud-Net, where there are no masks."""

import csv
import math

import numpy as np
import pytest
import rasterio
import torch

from place_scenes import OPTIONS, TILE, job
from unclouded.datasets.pairs import read_pairs
from unclouded.datasets.prepare import PrepareOptions, prepare
from unclouded.datasets.preparing.coverage import cloud_net
from unclouded.datasets.preparing.grid import Pixels
from unclouded.errors import UncloudedError, UsageError
from unclouded.models.cloudnet import CloudNet, CloudNetConfig, save_cloud_net


def test_brightening_needs_to_be_asked_for(tmp_path, scenes):
    path = job(tmp_path, scenes, mask="")
    with pytest.raises(UsageError, match="choose --coverage cloud-net"):
        list(prepare(path, tmp_path / "out", OPTIONS))
    options = PrepareOptions(tile=TILE, coverage="brightening", least_coverage=0.1, format="tif")
    list(prepare(path, tmp_path / "tif", options))
    pairs = read_pairs(tmp_path / "tif")
    assert {p.stem.split("_")[2] for p in pairs} == {"0", "64"}
    with rasterio.open(pairs[0].clear) as tile, rasterio.open(scenes / "a_clear.tif") as scene:
        assert tile.crs == scene.crs
        row, col = round((5_000_000 - tile.transform.f) / 2), round((tile.transform.c - 500_000) / 2)
        np.testing.assert_array_equal(tile.read(), scene.read()[:, row : row + TILE, col : col + TILE])


def sure_of(path, probability):
    """A Cloud-Net that gives every pixel the same probability of cloud."""
    torch.manual_seed(0)
    network = CloudNet(CloudNetConfig(features=2, levels=1))
    torch.nn.init.zeros_(network.outro.weight)
    torch.nn.init.constant_(network.outro.bias, math.log(probability / (1 - probability)))
    save_cloud_net(path, network, "for tests", (), 0)
    return path


def test_cloud_net_gives_the_coverage_of_scenes_without_masks(tmp_path, scenes):
    path = job(tmp_path, scenes, mask="")
    options = PrepareOptions(tile=TILE, coverage="cloud-net", cloud_net=sure_of(tmp_path / "c.safetensors", 0.4))
    list(prepare(path, tmp_path / "out", options))
    with (tmp_path / "out" / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 9
    assert all(float(row["coverage"]) == pytest.approx(0.4, abs=1e-3) for row in rows)
    assert "Cloud-Net" in (tmp_path / "out" / "DATASHEET.md").read_text()
    assert not any(done.made for done in prepare(path, tmp_path / "out", options))
    sure_of(options.cloud_net, 0.6)  # other weights: all places anew
    assert all(done.made for done in prepare(path, tmp_path / "out", options))
    sure_of(options.cloud_net, 0.99)
    with pytest.raises(UncloudedError, match="all tiles are clear, obscured"):
        list(prepare(path, tmp_path / "out", options))


def test_our_cloud_net_sees_the_veil(tmp_path, scenes):
    """Tiles under a veil of 75 % on 26 and 38 of 64 columns, and tiles under none."""
    options = PrepareOptions(tile=TILE, coverage="cloud-net", least_coverage=0)
    list(prepare(job(tmp_path, scenes, mask=""), tmp_path / "out", options))
    with (tmp_path / "out" / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    none, less, more = (np.mean([float(r["coverage"]) for r in rows if r["col"] == col]) for col in ("128", "0", "64"))
    assert none + 0.1 < less < more
    assert more == pytest.approx(0.75 * 38 / 64, abs=0.25)


def test_cloud_net_needs_red_green_and_blue(tmp_path):
    weights = sure_of(tmp_path / "c.safetensors", 0.4)
    for bands in (("red", "green", "blue"), ("gray",), ("nir", "blue", "green", "red")):
        probability = cloud_net(weights, bands, 0, 100)
        dn = np.full((len(bands), 5, 7), 50, np.uint16)
        found = probability(None, Pixels(dn, dn[0] > 0), None)
        np.testing.assert_allclose(found, np.full((5, 7), 0.4), atol=1e-3)
    with pytest.raises(UsageError, match="Cloud-Net sees red, green and blue, and the scenes have a, b"):
        cloud_net(weights, ("a", "b"), 0, 100)


def test_cloud_net_sees_the_bands_by_their_names_and_levels(tmp_path):
    torch.manual_seed(0)
    network = CloudNet(CloudNetConfig(features=2, levels=1)).eval()
    save_cloud_net(tmp_path / "c.safetensors", network, "for tests", (), 0)
    dn = np.random.default_rng(0).integers(0, 4000, (4, 8, 8)).astype(np.uint16)
    found = cloud_net(tmp_path / "c.safetensors", ("nir", "blue", "green", "red"), 500, 3000)(
        None, Pixels(dn, dn[0] >= 0), None
    )
    image = np.clip((dn[[3, 2, 1]].astype(np.float32) - 500) / 2500, 0, 1)
    with torch.no_grad():
        expected = network(torch.from_numpy(image)[None])[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)
