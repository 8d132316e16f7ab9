"""Clouds lifted off one ground and laid over another."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.bands import BandSet
from unclouded.scenes.fractal import fractal
from unclouded.scenes.landscape import landscape
from unclouded.training.cloud_layers import CloudLayer, cloud_layer, harder, recoloured
from unclouded.training.export import _data
from unclouded.training.pools import ClearPool, PairPool, magnify
from unclouded.training.recipes import recipe
from unclouded.training.sources import open_pool
from unclouded.training.values import Run, Source

SIDE = 96
BANDS = BandSet.display("red", "green", "blue")


def ground(seed: int) -> np.ndarray:
    return landscape(np.random.default_rng(seed), SIDE, SIDE, gsd=5.0)[:3]


def veil(seed: int) -> np.ndarray:
    """Opacity [1, H, W] between 0.2 and 0.6, smooth."""
    smooth = fractal(np.random.default_rng(seed), SIDE, SIDE, outer=SIDE)
    return (0.2 + 0.4 * (smooth - smooth.min()) / np.ptp(smooth))[None].astype(np.float32)


def test_a_veil_is_found() -> None:
    clear, opacity = ground(0), veil(1)
    layer = cloud_layer((1 - opacity) * clear + 0.7 * opacity, clear)
    assert layer.seen_through
    assert np.abs(layer.transmission - (1 - opacity)).mean() < 0.05
    assert np.abs(layer.light - 0.7 * opacity).mean() < 0.02


def test_a_veil_over_other_ground_is_what_the_veil_there_would_be() -> None:
    clear, other, opacity = ground(0), ground(2), veil(1)
    layer = cloud_layer((1 - opacity) * clear + 0.7 * opacity, clear)
    expected = (1 - opacity) * other + 0.7 * opacity
    assert np.sqrt(np.mean((layer.over(other) - expected) ** 2)) < 0.25 * np.sqrt(np.mean((other - expected) ** 2))


def test_of_another_day_only_the_thick_cloud_comes_along() -> None:
    clear, day, other = ground(0), ground(3) * 0.3 + 0.1, ground(2)
    cloudy = day.copy()
    cloudy[:, 30:60, 30:60] = 0.95
    layer = cloud_layer(cloudy, clear * 0.3 + 0.1)
    assert not layer.seen_through
    under = layer.over(other)
    np.testing.assert_allclose(under[:, 36:54, 36:54], 0.95, atol=0.02)
    far = np.ones((SIDE, SIDE), bool)
    far[22:68, 22:68] = False
    assert np.abs(under - other)[:, far].mean() < 0.01


def test_equal_images_without_any_structure_have_no_cloud() -> None:
    flat = np.full((3, SIDE, SIDE), 0.4, np.float32)
    layer = cloud_layer(flat, flat)
    np.testing.assert_allclose(layer.over(ground(0)), ground(0), atol=1e-6)


def test_a_cloud_twice_as_thick_is_two_of_it() -> None:
    """Two layers one over the other: transmissions multiply, and an opaque cloud keeps its light."""
    opacity = veil(1)
    layer = CloudLayer(1 - opacity, np.repeat(0.7 * opacity, 3, axis=0), True)
    x = ground(0) * 0.5
    np.testing.assert_allclose(layer.times(2).over(x), layer.over(layer.over(x)), atol=1e-6)
    np.testing.assert_allclose(layer.times(1).over(x), layer.over(x), atol=1e-6)
    clear = CloudLayer(np.ones_like(opacity), np.zeros_like(layer.light), True)
    np.testing.assert_array_equal(clear.times(0.5).over(x), x)


def test_other_colours_of_the_ground_under_the_same_veil() -> None:
    clear, opacity = ground(0) * 0.6 + 0.1, veil(1)
    cloudy = (1 - opacity) * clear + 0.7 * opacity
    other_cloudy, other = recoloured(cloudy, clear, np.random.default_rng(3))
    assert np.abs(other - clear).mean() > 0.02
    expected = (1 - opacity) * other + 0.7 * opacity
    assert np.abs(other_cloudy - expected).mean() < 0.1 * np.abs(other_cloudy - cloudy).mean()


def test_other_colours_leave_a_thick_cloud_of_another_day_white() -> None:
    clear = ground(0) * 0.3 + 0.1
    cloudy = ground(3) * 0.3 + 0.1
    cloudy[:, 30:60, 30:60] = 0.95
    other_cloudy, other = recoloured(cloudy, clear, np.random.default_rng(3))
    np.testing.assert_allclose(other_cloudy[:, 36:54, 36:54], 0.95, atol=0.02)
    far = np.ones((SIDE, SIDE), bool)
    far[22:68, 22:68] = False  # there both days changed by the same factors
    ratio, ratio_of_day = (np.log(a / b)[:, far].mean(axis=1) for a, b in ((other, clear), (other_cloudy, cloudy)))
    np.testing.assert_allclose(ratio, ratio_of_day, atol=0.02)


def test_a_harder_contrast_keeps_the_order_of_a_bands_tones() -> None:
    image = 0.3 + 0.3 * ground(0)
    spans = []
    for seed in range(20):
        shown = harder(image, np.random.default_rng(seed))
        assert shown.dtype == np.float32
        assert 0 <= shown.min() <= shown.max() <= 1
        for before, after in zip(image, shown, strict=True):
            assert (np.diff(after.ravel()[before.ravel().argsort()]) >= 0).all()
        spans.append(np.ptp(shown, axis=(1, 2)).mean())
    assert np.mean(spans) > 1.3 * np.ptp(image, axis=(1, 2)).mean()


@pytest.mark.parametrize(("contrast", "changed"), [(0.0, False), (1.0, True)])
def test_clear_images_are_drawn_in_a_harder_contrast(contrast: float, changed: bool) -> None:
    image = np.asarray(0.3 + 0.3 * ground(0), np.float32)
    pool = ClearPool([image], ("red", "green", "blue"), false_colour=0.0, contrast=contrast)
    for seed in range(5):
        _, clear = pool.draw(np.random.default_rng(seed), SIDE)
        assert (clear.min() < image.min() - 0.01 or clear.max() > image.max() + 0.01) == changed


def test_magnifying_keeps_a_ramp_and_the_range() -> None:
    ramp = np.linspace(0, 1, 40, dtype=np.float32)[None, None].repeat(40, axis=1)
    larger = magnify(ramp, 60)
    assert larger.shape == (1, 60, 60)
    assert 0 <= larger.min() <= larger.max() <= 1
    np.testing.assert_allclose(larger[0, 30, 5:55], (np.arange(5, 55) + 0.5) * 40 / 60 / 39 - 0.5 / 39, atol=2e-3)
    assert magnify(ramp, 40) is ramp


def write_pairs(root: Path, count: int) -> None:
    for name in ("cloud", "label"):
        (root / name).mkdir(parents=True)
    for n in range(count):
        clear, opacity = ground(n), veil(10 + n)
        for name, image in (("label", clear), ("cloud", (1 - opacity) * clear + 0.7 * opacity)):
            Image.fromarray((255 * image).round().astype(np.uint8).transpose(1, 2, 0)).save(root / name / f"{n}.png")


def pool(root: Path, **fields: object) -> PairPool:
    opened = open_pool(Source.model_validate(fields), root, BANDS)
    assert isinstance(opened, PairPool)
    return opened


@pytest.mark.parametrize("seen_through", [True, False])
def test_a_transplanted_example_keeps_its_ground_and_takes_the_cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen_through: bool
) -> None:
    write_pairs(tmp_path, 3)
    plain, mixed = pool(tmp_path), pool(tmp_path, transplanted=1.0)
    layer = CloudLayer(veil(20)[:, :64, :64], np.full((3, 64, 64), 0.2, np.float32), seen_through)
    monkeypatch.setattr(mixed, "layer", lambda rng, side: layer)
    for seed in range(4):
        (y, x0), (other, same) = (p.draw(np.random.default_rng(seed), 64) for p in (plain, mixed))
        np.testing.assert_array_equal(same, x0)
        np.testing.assert_array_equal(other, layer.over(x0 if seen_through else y))


def test_a_share_of_the_examples_is_transplanted_and_the_same_one_each_time(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    plain, mixed = pool(tmp_path), pool(tmp_path, transplanted=0.3)
    drawn = [[p.draw(np.random.default_rng(seed), 32)[0] for seed in range(100)] for p in (plain, mixed, mixed)]
    other = [not np.array_equal(a, b) for a, b, _ in zip(*drawn, strict=True)]
    assert 15 <= sum(other) <= 45
    assert all(np.array_equal(b, c) for _, b, c in zip(*drawn, strict=True))


def test_a_varied_example_is_of_other_scale_and_colours_and_the_same_each_time(tmp_path: Path) -> None:
    write_pairs(tmp_path, 1)
    plain, varied, whole = pool(tmp_path), pool(tmp_path, varied=1.0), ground(0)
    np.testing.assert_allclose(plain.draw(np.random.default_rng(0), SIDE)[1], whole, atol=0.5 / 255)
    tints, likeness = [], []
    for seed in range(20):
        (y, x0), (again, _) = (varied.draw(np.random.default_rng(seed), SIDE) for _ in range(2))
        np.testing.assert_array_equal(y, again)
        assert y.shape == x0.shape == whole.shape
        tints.append(x0[0].mean() / x0[2].mean())
        likeness.append(np.corrcoef(x0.ravel(), whole.ravel())[0, 1])
    assert np.std(tints) > 0.03 * np.mean(tints)
    assert np.median(likeness) < 0.8, "a magnified part lies elsewhere"


def test_clear_images_may_lie_under_the_clouds_of_pairs(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", 2)
    source = Source(kind="clear", path="pairs/label", clouds="pairs", cloudless=0.0)
    y, x0 = open_pool(source, tmp_path, BANDS).draw(np.random.default_rng(0), 64)
    opacity = 1 - np.polyfit(x0.ravel(), y.ravel(), 1)[0]
    assert 0.15 < opacity < 0.65, "a veil of the pairs', not a simulated cloud"


def test_clear_images_and_clouds_come_from_lists_of_their_own(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs", 3)
    for name, stem in (("ground", "2"), ("clouds", "1")):
        (tmp_path / name).write_text(f"{stem}\n")
    fields = {"split": str(tmp_path / "ground"), "clouds_split": str(tmp_path / "clouds")}
    pool = open_pool(Source(kind="clear", path="pairs/label", clouds="pairs", **fields), tmp_path, BANDS)
    assert isinstance(pool, ClearPool)
    assert pool.clouds is not None
    assert [pair.stem for pair in pool.clouds.pairs] == ["1"]
    assert len(pool) == 1
    np.testing.assert_allclose(pool.images[0], ground(2), atol=0.5 / 255)
    (tmp_path / "none").write_text("77\n")
    with pytest.raises(UncloudedError, match="no clear images of the list"):
        open_pool(Source(kind="clear", path="pairs/label", split=str(tmp_path / "none")), tmp_path, BANDS)


def test_clear_ground_varies_in_colour_and_keeps_its_detail(tmp_path: Path) -> None:
    source = Source(kind="landscapes", count=1, cloudless=0.99)
    plain, varied = (open_pool(source.model_copy(update={"varied": v}), tmp_path, BANDS) for v in (0.0, 1.0))
    changes = []
    for seed in range(8):
        (_, before), (_, after) = (pool.draw(np.random.default_rng(seed), 64) for pool in (plain, varied))
        assert after.dtype == np.float32
        assert np.corrcoef(before.mean(axis=0).ravel(), after.mean(axis=0).ravel())[0, 1] > 0.98
        changes.append(after.mean(axis=(1, 2)) / before.mean(axis=(1, 2)))
    assert np.std(changes, axis=0).min() > 0.05


def test_near_infrared_takes_the_clouds_of_rgb_pairs(tmp_path: Path) -> None:
    write_pairs(tmp_path, 2)
    pool = open_pool(Source(kind="landscapes", count=1, clouds="."), tmp_path, BandSet.display("blue", "nir", "red"))
    y, x0 = pool.draw(np.random.default_rng(5), 64)
    slopes, added = np.transpose([np.polyfit(x0[band].ravel(), y[band].ravel(), 1) for band in range(3)])
    assert np.ptp(slopes) < 0.1, "one veil for all bands"
    assert added[1] == pytest.approx(added[2], abs=0.05)


def test_a_band_that_the_layer_lacks_is_as_bright_as_its_first() -> None:
    light = np.arange(3, dtype=np.float32)[:, None, None]
    layer = CloudLayer(np.ones((1, 1, 1), np.float32), light, seen_through=True)
    seen = layer.seen_in(("red", "green", "blue"), ("nir", "blue", "red"))
    np.testing.assert_array_equal(seen.light.ravel(), [0, 2, 0])


def test_the_card_says_whose_clouds_were_laid_over() -> None:
    run = Run(data=Path("."), out=Path("."))
    assert _data(Source(kind="clear", path="chips", clouds="rice1"), run) == "chips under clouds of rice1"
    assert _data(Source(kind="landscapes"), run) == "generated landscapes"


FOREIGN: list[dict[str, object]] = [
    {"transplanted": 0.5, "kind": "clear"},
    {"clouds": "x"},
    {"cloudless": 0.5},
]


@pytest.mark.parametrize("fields", FOREIGN)
def test_fields_of_another_kind_of_source_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="for the kind"):
        Source.model_validate(fields)


def test_transplanted_clouds_want_one_date() -> None:
    with pytest.raises(UsageError, match="one date"):
        recipe("base", ["model.frames=2"])
