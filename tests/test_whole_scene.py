"""Whole scenes through model doubles: which pixels are replaced and by what, and that the tiling does not show."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from restorer_double import DTYPES, Double, local, numbers
from scene_files import read, write_tif
from unclouded.errors import UncloudedError
from unclouded.restore_array import restore_array
from unclouded.whole_scene import restore_scene


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("height", "width"), [(101, 203), (1, 77), (60, 1), (64, 64)])
def test_an_identity_model_returns_the_bits(tmp_path: Path, dtype: str, height: int, width: int) -> None:
    pixels = numbers((3, height, width), dtype)
    source = write_tif(tmp_path / "in.tif", pixels)
    report = restore_scene(source, tmp_path / "out.tif", model=Double(), tile=32, overlap=8)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), pixels)
    assert report.pixels == {"input": 0, "blended": 0, "synthesised": height * width, "nodata": 0}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tif", "out.tif"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_model_gives_that_constant(tmp_path: Path, dtype: str) -> None:
    source = write_tif(tmp_path / "in.tif", numbers((3, 90, 70), dtype))
    restore_scene(
        source, tmp_path / "out.tif", model=Double(lambda y: torch.full_like(y, 0.25)), tile=32, overlap=9,
        value_range=(0, 200),
    )  # fmt: skip
    assert (read(tmp_path / "out.tif") == 50).all()


def test_grid_batch_and_overlap_do_not_change_a_local_model(tmp_path: Path) -> None:
    pixels = numbers((3, 120, 95), "float32")
    source = write_tif(tmp_path / "in.tif", pixels)
    whole = restore_scene(source, tmp_path / "a.tif", model=Double(local), tile=256, overlap=64)
    assert whole.tiles == 1
    for name, tile, overlap, batch in [("b", 32, 8, 1), ("c", 50, 41, 7), ("d", 17, 0, 3)]:
        restore_scene(
            source, tmp_path / f"{name}.tif", model=Double(local), tile=tile, overlap=overlap, batch_size=batch
        )
        np.testing.assert_allclose(read(tmp_path / f"{name}.tif"), read(tmp_path / "a.tif"), atol=1e-6)


def test_tiles_know_where_they_are(tmp_path: Path) -> None:
    double = Double()
    restore_scene(write_tif(tmp_path / "in.tif", numbers((3, 50, 70), "uint8")), tmp_path / "o.tif", model=double,
                  tile=32, overlap=8)  # fmt: skip
    assert sorted(double.origins) == [(r, c) for r in (0, 18) for c in (0, 24, 38)]


def test_one_band_can_feed_every_channel(tmp_path: Path) -> None:
    pixels = numbers((1, 40, 30), "uint16")
    source = write_tif(tmp_path / "in.tif", pixels)
    restore_scene(source, tmp_path / "a.tif", model=Double(), bands=[1, 1, 1])
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels)
    restore_scene(
        source, tmp_path / "b.tif", model=Double(lambda y: y * 0 + 0.5), bands=[1, 1, 1], value_range=(0, 100)
    )
    assert (read(tmp_path / "b.tif") == 50).all()


def test_only_tiles_whose_core_has_cloud_are_restored(tmp_path: Path) -> None:
    pixels = np.maximum(numbers((3, 104, 104), "uint8"), 1)  # tiles of 32 at 0, 24, 48, 72; cores meet at 28, 52, 76
    source = write_tif(tmp_path / "in.tif", pixels)
    double, mask = Double(local), np.zeros((1, 104, 104), np.uint8)
    for cloud, tiles in (
        ((slice(0, 0), slice(0, 0)), []),
        ((slice(30, 50), slice(29, 52)), [(24, 24)]),
        ((slice(50, 54), slice(100, 104)), [(24, 72), (48, 72)]),
    ):
        mask[:], double.origins = 0, []
        mask[0][cloud] = 1
        restore_scene(source, tmp_path / "out.tif", model=double, tile=32, overlap=8, overwrite=True,
                      mask=write_tif(tmp_path / "mask.tif", mask))  # fmt: skip
        assert double.origins == tiles
        expected = np.where(mask, np.rint(255 * (1 - (pixels / 255) ** 2)), pixels)
        assert np.abs(read(tmp_path / "out.tif").astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("compiled", "origins", "shapes"),
    [
        (False, [(160, 0), (16, 508)], [(1, 3, 208, 112), (1, 3, 176, 192)]),
        (True, [(0, 0), (0, 380)], [(2, 3, 420, 420)]),
    ],
)
def test_the_model_sees_the_cloud_and_what_is_around_it(
    tmp_path: Path, compiled: bool, origins: list[tuple[int, int]], shapes: list[tuple[int, ...]]
) -> None:
    pixels = np.maximum(numbers((3, 420, 800), "uint8"), 1)
    mask, found = np.zeros((1, 420, 800), np.uint8), []
    mask[0, 250:280, 5:25] = 1  # in the first tile of two
    mask[0, 100, 600:604] = 1

    def seen(y: torch.Tensor) -> torch.Tensor:
        found.append(tuple(y.shape))
        return local(y)

    double = Double(seen)
    double.compiled = compiled  # type: ignore[attr-defined]
    restore_scene(
        write_tif(tmp_path / "in.tif", pixels), tmp_path / "out.tif", model=double, tile=420, overlap=40, batch_size=2,
        mask=write_tif(tmp_path / "mask.tif", mask),
    )  # fmt: skip
    assert double.origins == origins
    assert found == shapes
    expected = np.where(mask, np.rint(255 * (1 - (pixels / 255) ** 2)), pixels)
    assert np.abs(read(tmp_path / "out.tif").astype(int) - expected).max() <= 1


def test_what_the_model_sees_reaches_to_the_tiles_end_where_the_cloud_does(tmp_path: Path) -> None:
    pixels, mask = np.maximum(numbers((3, 420, 800), "uint8"), 1), np.zeros((1, 420, 800), np.uint8)
    mask[0, 419, 799] = 1  # 420 is no multiple of 16
    double = Double(local)
    restore_scene(
        write_tif(tmp_path / "in.tif", pixels), tmp_path / "out.tif", model=double, tile=420, overlap=40,
        mask=write_tif(tmp_path / "mask.tif", mask),
    )  # fmt: skip
    assert double.origins == [(336, 716)]
    expected = np.where(mask, np.rint(255 * (1 - (pixels / 255) ** 2)), pixels)
    assert np.abs(read(tmp_path / "out.tif").astype(int) - expected).max() <= 1


def test_a_tile_may_hold_only_the_fading_edge_of_a_cloud(tmp_path: Path) -> None:
    pixels = np.maximum(numbers((3, 32, 104), "uint8"), 1)  # tiles of 32 at 0, 24, 48, 72; cores meet at 28, 52, 76
    mask = np.zeros((1, 32, 104), np.uint8)
    mask[0, :, 50] = 1
    double = Double(local)
    report = restore_scene(
        write_tif(tmp_path / "in.tif", pixels), tmp_path / "out.tif", model=double, tile=32, overlap=8,
        mask=write_tif(tmp_path / "mask.tif", mask), mask_feather="30",
    )  # fmt: skip
    assert len(double.origins) == 4
    assert report.pixels == {"input": 43 * 32, "blended": 60 * 32, "synthesised": 32, "nodata": 0}


@pytest.mark.parametrize("mask", ["none", "auto", "file"])
def test_panels_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: str) -> None:
    """A scene cut into panels of columns gives what a scene in one panel gives, in every layer."""
    monkeypatch.setattr("unclouded.scenes.auto_mask.THRESHOLD", 0.4)
    pixels = np.random.default_rng(0).uniform(0.05, 0.35, (3, 90, 201)).astype(np.float32)
    source = write_tif(tmp_path / "in.tif", pixels)
    if mask == "file":
        where = (np.random.default_rng(1).random((1, 90, 201)) < 0.01).astype(np.uint8)
        mask = str(write_tif(tmp_path / "mask.tif", where))
    results, double = [], Double(local)
    for limit in (10**6, 70):
        seen: list[tuple[int, int]] = []
        double.origins = []
        restore_scene(
            source, tmp_path / "o.tif", model=double, tile=32, overlap=8, mask=mask, overwrite=True,
            mask_out=tmp_path / "m.tif", uncertainty_out=tmp_path / "u.tif", panel_width=limit,
            progress=lambda done, total, seen=seen: seen.append((done, total)),
        )  # fmt: skip
        assert seen[0][0] == 0
        assert seen[-1][0] == seen[-1][1]
        assert len(double.origins) == len(set(double.origins))  # what two panels share is restored once
        results.append([read(tmp_path / f"{name}.tif") for name in "omu"])
    assert 0 < (results[0][1] == 2).mean() <= 1
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "brightest", "options", "said"),
    [
        ("uint16", 20000, {}, True),  # Landsat Collection 2
        ("uint16", 3000, {}, False),
        ("uint16", 20000, {"reflectance": (2.75e-5, -0.2)}, False),
        ("float32", 1.0, {}, True),
        ("uint8", 900, {}, False),  # pictures may well be white
    ],
)
def test_a_scene_that_is_white_to_the_model_is_doubted(
    tmp_path: Path, dtype: str, brightest: float, options: dict[str, Any], said: bool
) -> None:
    pixels = np.random.default_rng(0).uniform(0.4 * brightest, brightest, (3, 40, 40))
    pixels = np.minimum(pixels, 255) if dtype == "uint8" else pixels
    source = write_tif(tmp_path / "in.tif", pixels.astype(dtype))
    report = restore_scene(source, tmp_path / "out.tif", model=Double(), **options)
    assert any("white to the model" in note for note in report.notes) == said


def test_arrays_of_any_size_and_dtype() -> None:
    for dtype in DTYPES:
        image = numbers((3, 37, 301), dtype)
        np.testing.assert_array_equal(restore_array(image, Double()), image)
    floats = np.random.default_rng(0).random((3, 300, 40), np.float32)
    np.testing.assert_allclose(restore_array(floats, Double(local)), 1 - floats**2, atol=1e-6)
    assert (restore_array(np.zeros((3, 5, 5), np.uint8), Double(local)) == 255).all()


def test_a_model_that_answers_nonsense_is_stopped(tmp_path: Path) -> None:
    source = write_tif(tmp_path / "in.tif", numbers((3, 50, 60), "uint8"))
    with pytest.raises(UncloudedError, match="not finite"):
        restore_scene(source, tmp_path / "out.tif", model=Double(lambda y: y * torch.nan))
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]
