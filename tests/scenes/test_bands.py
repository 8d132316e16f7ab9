"""Conversion between scene numbers and model range."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.bands import BandSet, DnRange, avoid_nodata, check_fit, fits

RGB = BandSet.display("red", "green", "blue")
ALL_DN = {"uint8": np.arange(256), "uint16": np.arange(65536), "int16": np.arange(-32768, 32768)}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_every_integer_inside_the_range_comes_back(dtype: str) -> None:
    dn = np.broadcast_to(ALL_DN[dtype].astype(dtype), (3, 1, len(ALL_DN[dtype])))
    full = RGB.same_range(float(dn.min()), float(dn.max()))
    x = full.to_model(dn)
    assert x.dtype == np.float32
    assert x.min() == 0
    assert x.max() == 1
    np.testing.assert_array_equal(full.from_model(x, dtype), dn)


def test_display_model_sees_products_as_sentinel_true_colour() -> None:
    dn = np.array([0, 1779, 3558, 12000], np.uint16).reshape(1, 1, 4).repeat(3, 0)
    np.testing.assert_allclose(RGB.to_model(dn)[0, 0], [0, 0.5, 1, 1], atol=1e-6)
    np.testing.assert_allclose(RGB.to_model((dn / 10000).astype(np.float32))[0, 0], [0, 0.5, 1, 1], atol=1e-6)
    np.testing.assert_allclose(RGB.to_model(np.full((3, 1, 1), 51, np.uint8)), 0.2, atol=1e-6)


def test_reflectance_model_sees_pictures_through_the_same_bridge() -> None:
    bands = BandSet.reflectance("red", "nir")
    np.testing.assert_allclose(bands.to_model(np.full((2, 1, 1), 255, np.uint8)), 0.3558, atol=1e-6)
    np.testing.assert_allclose(bands.to_model(np.full((2, 1, 1), 3558, np.int16)), 0.3558, atol=1e-6)


def test_scale_and_offset_of_the_file_are_used() -> None:
    landsat = BandSet.reflectance("red").dn_range("uint16", scales=[2.75e-5], offsets=[-0.2])
    dn = np.array([7273, 18182], np.uint16).reshape(1, 1, 2)  # reflectance 0 and 0.3
    np.testing.assert_allclose(landsat.to_model(dn)[0, 0], [0, 0.3], atol=1e-4)
    inverted = BandSet.reflectance("red").dn_range("int16", scales=[-1e-4], offsets=[0.0])
    np.testing.assert_allclose(inverted.to_model(np.full((1, 1, 1), -2500, np.int16)), 0.25, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.floats(-0.5, 1.5), st.sampled_from(["uint8", "uint16", "int16", "float32", "float64"]), st.integers(0, 255))
def test_a_valid_pixel_never_becomes_nodata(value: float, dtype: str, nodata: int) -> None:
    x = np.full((3, 2, 2), value)
    exactly = (nodata / 255) * np.ones((3, 2, 2))
    assert not (RGB.same_range(0, 255).from_model(x, dtype, nodata) == nodata).any()
    moved = RGB.same_range(0, 255).from_model(exactly, dtype, nodata)
    assert (moved != nodata).all()
    np.testing.assert_allclose(moved.astype(float), nodata, atol=1.01)


def test_nodata_outside_the_dtype_is_no_value_of_it() -> None:
    assert not fits(-9999, "uint8")
    assert not fits(float("nan"), "int16")
    assert not fits(0.5, "uint8")
    assert fits(float("nan"), "float32")
    assert not fits(1e300, "float32")
    dn = np.zeros((1, 2, 2), np.uint8)
    np.testing.assert_array_equal(avoid_nodata(dn.copy(), -9999), dn)


def test_rounding_is_to_nearest_and_clipped() -> None:
    full = BandSet.display("gray").same_range(0, 255)
    x = np.array([[[-1, 0.4999 / 255, 0.5001 / 255, 2]]])
    assert full.from_model(x, "uint8").ravel().tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize(
    ("dtype", "quantiles", "option"),
    [
        ("uint16", [90, 200, 255], "0,255"),
        ("uint16", [30000, 52000, 65535], "--range"),
        ("float32", [90.0, 200.0, 255.0], "--range"),
        ("float32", [1e-4, 2e-4, 3e-4], "black"),
    ],
)
def test_a_scene_in_another_unit_is_refused(dtype: str, quantiles: list[float], option: str) -> None:
    seen = np.repeat(np.array(quantiles)[:, None], 3, 1)
    with pytest.raises(UncloudedError, match=option):
        check_fit(RGB.dn_range(dtype), RGB, seen, dtype)


@pytest.mark.parametrize("quantiles", [[1200, 3000, 16000], [9000, 14000, 20000], [150, 400, 3000]])
def test_clear_cloudy_and_dark_reflectance_are_accepted(quantiles: list[float]) -> None:
    check_fit(RGB.dn_range("uint16"), RGB, np.repeat(np.array(quantiles)[:, None], 3, 1), "uint16")


def test_impossible_band_sets_and_ranges_are_refused() -> None:
    with pytest.raises(ValidationError, match="twice"):
        BandSet.display("red", "red")
    with pytest.raises(ValidationError, match="not below"):
        BandSet(names=("red",), low=(1.0,), high=(1.0,))
    for number in (math.nan, math.inf):
        with pytest.raises(ValidationError, match="finite"):
            BandSet(names=("red",), low=(0.0,), high=(number,))
        with pytest.raises(ValidationError, match="finite"):
            BandSet(names=("red",), low=(0.0,), high=(1.0,), reflectance_at_255=number)
    with pytest.raises(ValidationError, match="empty"):
        DnRange(low=(3.0,), high=(3.0,))
    with pytest.raises(UsageError, match="--range"):
        RGB.same_range(5, 5)
