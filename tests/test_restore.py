"""The Restorer: laws of position, batch and samples; layouts and dtypes; devices that are not there."""

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine

from unclouded.diffusion.windows import window_mean
from unclouded.errors import UncloudedError, UsageError
from unclouded.evaluation.methods import Prior
from unclouded.models.card import ModelCard
from unclouded.models.de import DE, DEConfig
from unclouded.models.end_to_end import EndToEnd, EndToEndConfig
from unclouded.models.padding import with_margin, without_margin
from unclouded.models.scales import halved, joined
from unclouded.models.unet import UNetConfig
from unclouded.restore import Restorer
from unclouded.sampling import Sampling
from unclouded.scenes.bands import BandSet
from unclouded.whole_scene import restore_scene

PRIOR = {"channels": (8, 8), "blocks": (1, 1)}
SAMPLING = Sampling(steps=3)


def _restorer(bands: int = 3, wa: bool = True, precision: str = "fp32") -> Restorer:
    network = {"channels": 8, "res_blocks": 1, "multipliers": (1, 1), "attention": (), "heads": 1}
    config = DEConfig(
        bands=bands,
        prior="light" if wa else None,
        prior_options=PRIOR if wa else {},
        cnp=UNetConfig(2 * bands, bands, **network),
        wa=UNetConfig(3 * bands, bands, **network) if wa else None,
    )
    model = DE(config)
    for p in model.parameters():  # also the layers that start at zero
        torch.nn.init.normal_(p, std=0.1)
    names = [f"b{i}" for i in range(bands)]
    card = ModelCard(name="t", method="de", architecture={}, bands=BandSet.display(*names), sampling=SAMPLING)
    return Restorer(model, card, device="cpu", precision=precision)


def test_the_answer_is_in_range_and_of_the_same_size() -> None:
    y = torch.rand(2, 3, 21, 34)
    restored = _restorer().restore(y)
    assert restored.clear.shape == restored.w.shape == restored.prior.shape == y.shape
    assert restored.spread is None
    assert restored.clear.min() >= 0
    assert restored.clear.max() <= 1
    assert restored.w.min() >= 0.3  # the weight floor


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batch_and_order_do_not_change_an_image(precision: str) -> None:
    restorer, y = _restorer(precision=precision), torch.rand(3, 3, 16, 16)
    origins = [(0, 0), (5, 9), (100, 3)]
    together = restorer.restore(y, origins).clear
    for i in (2, 0, 1):
        alone = restorer.restore(y[i : i + 1], origins[i : i + 1]).clear
        torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-6)


def test_noise_belongs_to_the_place_in_the_scene_and_to_the_seed() -> None:
    restorer, y = _restorer(wa=False), torch.rand(1, 3, 16, 16)
    here = restorer.restore(y, [(0, 0)]).clear
    assert not torch.equal(restorer.restore(y, [(7, 0)]).clear, here)
    assert not torch.equal(restorer.restore(y, [(0, 0)], Sampling(steps=3, seed=1)).clear, here)
    torch.testing.assert_close(restorer.restore(y, [(0, 0)]).clear, here, rtol=0, atol=0)


def test_samples_give_their_mean_and_standard_deviation() -> None:
    restorer, y = _restorer(wa=False), torch.rand(1, 3, 16, 16)
    three = restorer.restore(y, sampling=Sampling(steps=2, samples=3))
    assert three.spread is not None
    seen: list[torch.Tensor] = []

    def keep(step) -> None:  # type: ignore[no-untyped-def]
        if step.index == 1:
            seen.append((step.x0 / 2 + 0.5).clamp(0, 1)[..., :16, :16])

    restorer.restore(y, sampling=Sampling(steps=2, samples=3), on_step=keep)
    torch.testing.assert_close(three.clear, torch.stack(seen).mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(three.spread, window_mean(torch.stack(seen).var(0), 17).sqrt(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "sampling",
    [Sampling(sampler=s, steps=4) for s in ("ddim", "ddpm", "dpm")]
    + [Sampling(steps=4, eta=0.5), Sampling(steps=3, start=400)],
)
def test_a_weight_floor_of_one_gives_the_prior_whatever_the_sampler(sampling: Sampling) -> None:
    restored = _restorer().restore(torch.rand(1, 3, 16, 16), sampling=sampling.model_copy(update={"weight_floor": 1.0}))
    torch.testing.assert_close(restored.clear, restored.prior, rtol=1e-5, atol=1e-5)


def test_an_end_to_end_model_is_its_prior() -> None:
    model = EndToEnd(EndToEndConfig(prior="light", prior_options=PRIOR))
    card = ModelCard(name="t", method="prior", architecture={}, bands=BandSet.display("red", "green", "blue"))
    y = torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(Restorer(model, card, "cpu").restore(y).clear, y)  # untrained, Light is the identity


def test_several_decodes_of_a_cvae_are_its_uncertainty() -> None:
    """Mean and deviation over the samples; as the seed says, and the same whatever else is in the batch."""
    options = {"channels": 16, "depth": 1, "heads": 2, "latent": 4}
    model = EndToEnd(EndToEndConfig(prior="cvae", prior_options=options)).eval().requires_grad_(False)
    for p in model.parameters():  # a decoder that listens to its latents, which a fresh one hardly does
        torch.nn.init.normal_(p, std=0.07)
    card = ModelCard(name="c", method="prior", architecture={}, bands=BandSet.display("red", "green", "blue"))
    restorer, y = Restorer(model, card, "cpu", "fp32"), torch.rand(2, 3, 20, 33)
    one, many = restorer.restore(y), restorer.restore(y, [(0, 0), (16, 8)], Sampling(samples=4))
    assert one.spread is None
    assert many.spread is not None
    assert many.spread.shape == y.shape
    assert many.spread.max() > 1e-3
    torch.testing.assert_close(many.clear, one.clear, atol=float(10 * many.spread.max()), rtol=0)
    alone = restorer.restore(y[1:], [(16, 8)], Sampling(samples=4))
    torch.testing.assert_close(alone.spread, many.spread[1:])
    other = restorer.restore(y[1:], [(16, 8)], Sampling(samples=4, seed=1))
    assert not torch.equal(other.clear, alone.clear)


def test_images_come_back_in_their_own_layout_kind_and_dtype() -> None:
    restorer = _restorer()
    picture = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    clear = restorer(picture)
    assert clear.shape == picture.shape
    assert clear.dtype == np.uint8
    np.testing.assert_array_equal(restorer(np.moveaxis(picture, -1, 0)), np.moveaxis(clear, -1, 0))
    tensor = torch.from_numpy(picture)
    torch.testing.assert_close(restorer(tensor), torch.from_numpy(clear))
    floats = restorer(picture.astype(np.float32) / 255)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, clear / 255, atol=0.5 / 255 + 1e-5)


def test_masked_pixels_and_nan_are_no_data() -> None:
    restorer, rng = _restorer(), np.random.default_rng(0)
    picture = rng.integers(1000, 3000, (3, 20, 31), dtype=np.uint16)
    mask = np.zeros(picture.shape, bool)
    mask[1, 4:9, 5:12] = True  # of one band: the pixel cannot be restored
    picture[:, 4:9, 5:12] = 65535
    clear = restorer(np.ma.MaskedArray(picture, mask, fill_value=65535))
    assert clear.fill_value == 65535
    np.testing.assert_array_equal(np.ma.getmaskarray(clear), mask)
    np.testing.assert_array_equal(clear.data[:, 4:9, 5:12], 65535)
    floats = picture.astype(np.float32) / 3000
    floats[:, 4:9, 5:12] = np.nan
    as_nan = restorer(floats)
    wide = np.where(np.isnan(floats), np.float32(3.4e38), floats)
    np.testing.assert_array_equal(restorer(np.ma.masked_greater(wide, 1e38)).filled(np.nan), as_nan)
    assert np.isnan(as_nan[:, 4:9, 5:12]).all()
    assert np.isfinite(as_nan[~np.isnan(floats)]).all()
    other = picture.copy()
    other[:, 4:9, 5:12] = 0  # what lies under the mask has no say
    beside = ~mask.any(axis=0)
    np.testing.assert_array_equal(restorer(np.ma.MaskedArray(other, mask)).data[:, beside], clear.data[:, beside])


def test_bfloat16_tensors_come_back_as_such() -> None:
    restorer, tensor = _restorer(), torch.rand(3, 20, 31).bfloat16()
    clear = restorer(tensor)
    assert clear.dtype == torch.bfloat16
    torch.testing.assert_close(clear, restorer(tensor.float()).bfloat16())


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.ones((8, 8, 3), bool), "of bool has no brightness"),
        (np.ones((8, 8, 3), complex), "of complex128 has no brightness"),
        (np.full((8, 8, 3), 120.0), "above 10, and floats are 0 for black"),
        (np.zeros((0, 8, 3)), "has no pixels"),
    ],
)
def test_numbers_that_are_no_image_are_wrong_use(image: np.ndarray, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        _restorer()(image)


def test_a_wrong_number_of_bands_says_which_it_wants() -> None:
    restorer = _restorer()
    assert "of b0, b1, b2, on cpu in fp32" in repr(restorer)
    with pytest.raises(UncloudedError, match="b0, b1, b2"):
        restorer(np.zeros((8, 8, 5), np.uint8))
    with pytest.raises(UncloudedError, match="b0, b1, b2"):
        restorer.restore(torch.zeros(1, 4, 8, 8))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_here_is_wrong_use() -> None:
    restorer = _restorer()
    for device in ("cuda", "nonsense", "meta"):
        with pytest.raises(UsageError, match="no device"):
            Restorer(restorer.model, restorer.card, device)
    with pytest.raises(UsageError, match="no precision 'fp8'"):
        Restorer(restorer.model, restorer.card, "cpu", precision="fp8")


def test_auto_takes_bf16_where_the_processor_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    restorer = _restorer()
    for capabilities, precision in (({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({}, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        chosen = Restorer(restorer.model, restorer.card, "cpu")
        assert (chosen.precision, chosen.notes) == (precision, [])
    asked = Restorer(restorer.model, restorer.card, "cpu", precision="bf16")  # no instructions: works, and says so
    assert ["slower than fp32" in note for note in asked.notes] == [True]
    assert asked.restore(torch.rand(1, 3, 8, 8)).clear.isfinite().all()


@pytest.mark.slow
def test_networks_that_cannot_be_compiled_run_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, y = _restorer(), torch.rand(1, 3, 16, 16)
    expected = plain.restore(y).clear

    def broken(*args: object) -> None:
        raise ValueError("no compiler here")

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "compile", lambda self: _compile_with(self, broken))
        compiled = Restorer(plain.model, plain.card, "cpu", "fp32", compile=True)
    assert torch.equal(compiled.restore(y).clear, expected)
    assert torch.equal(compiled.restore(y).clear, expected)
    assert ["no compiler here" in note for note in compiled.notes] == [True]


def _compile_with(module: torch.nn.Module, backend: Any) -> None:
    module._compiled_call_impl = torch.compile(module._call_impl, backend=backend)


def test_a_warm_start_needs_a_prior() -> None:
    with pytest.raises(UsageError, match="warm start"):
        _restorer(wa=False).restore(torch.rand(1, 3, 8, 8), sampling=Sampling(steps=2, start=300))


def _all_turned(x: torch.Tensor) -> list[torch.Tensor]:
    return [torch.rot90(flipped, quarters, (-2, -1)) for flipped in (x, x.flip(-1)) for quarters in range(4)]


@pytest.mark.parametrize(("copies", "same"), [(1, [0]), (2, [0, 2]), (4, [0, 1, 2, 3]), (8, list(range(8)))])
def test_the_prior_of_an_ensemble_turns_with_the_image(copies: int, same: list[int]) -> None:
    restorer, y = _restorer(), torch.rand(2, 3, 12, 20)
    sampling = Sampling(steps=1, self_ensemble=copies)
    priors = [restorer.restore(image, sampling=sampling).prior for image in _all_turned(y)]
    assert priors[0] is not None
    for n, (turned, expected) in enumerate(zip(priors, _all_turned(priors[0]), strict=True)):
        assert torch.allclose(turned, expected, atol=1e-6) == (n in same)


def test_the_ensemble_is_the_mean_of_the_turned_answers() -> None:
    restorer, y = _restorer(), torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        half = torch.rot90(restorer.model.reference(torch.rot90(y, 2, (-2, -1))), 2, (-2, -1))
        expected = (restorer.model.reference(y) + half) / 2
    found = restorer.restore(y, sampling=Sampling(steps=1, self_ensemble=2)).prior
    torch.testing.assert_close(found, expected)


def test_a_margin_is_restored_with_the_image_and_cut_off() -> None:
    restorer, y = _restorer(), torch.rand(2, 3, 12, 20)
    plain, steps = Sampling(steps=3, start=400, samples=2, self_ensemble=2), []
    wide = restorer.restore(with_margin(y, 6), [(4, 90), (-6, 2)], plain)
    found = restorer.restore(y, [(10, 96), (0, 8)], plain.model_copy(update={"margin": 6}), on_step=steps.append)
    for name, image in found._asdict().items():
        assert image.shape == y.shape
        torch.testing.assert_close(image, without_margin(getattr(wide, name), 6), rtol=0, atol=0)
    assert {step.x0.shape for step in steps} == {step.w.shape for step in steps} == {y.shape}
    assert not torch.allclose(found.clear, restorer.restore(y, [(10, 96), (0, 8)], plain).clear)


def test_coarser_answers_are_joined_with_the_images_own() -> None:
    restorer, y, steps = _restorer(wa=False), torch.rand(2, 3, 11, 20), []
    plain = Sampling(steps=2, samples=2)
    fine, coarse = restorer.restore(y, [(10, 96), (0, 7)], plain), restorer.restore(halved(y), [(5, 48), (0, 3)], plain)
    scales = plain.model_copy(update={"scales": 2, "scale_share": 0.4})
    found = restorer.restore(y, [(10, 96), (0, 7)], scales, on_step=steps.append)
    torch.testing.assert_close(found.clear, joined([fine.clear, coarse.clear], 0.4).clamp(0, 1))
    assert torch.equal(found.spread, fine.spread)
    assert len(steps) == plain.steps * plain.samples


def test_the_prior_sees_the_coarser_image_turned() -> None:
    restorer, y = _restorer(), torch.rand(2, 3, 12, 20)
    fine = restorer.restore(y, sampling=Sampling(steps=1))
    found = restorer.restore(y, sampling=Sampling(steps=1, scales=2, scale_share=0.4))
    with torch.inference_mode():
        turned = torch.rot90(restorer.model.reference(torch.rot90(halved(y), 2, (-2, -1))), 2, (-2, -1))
    torch.testing.assert_close(found.prior, joined([fine.prior, turned], 0.4))
    assert torch.equal(found.w, fine.w)


@pytest.mark.parametrize("wa", [True, False])
def test_a_single_pixel_has_scales_too(wa: bool) -> None:
    found = _restorer(wa=wa).restore(torch.rand(1, 3, 1, 1), sampling=Sampling(steps=1, scales=5))
    assert found.clear.shape == (1, 3, 1, 1)
    assert found.clear.min() >= 0
    assert found.clear.max() <= 1


def test_the_prior_alone_has_the_margin_and_the_scales_too() -> None:
    restorer, y = _restorer(), np.random.default_rng(0).random((1, 3, 12, 12), dtype=np.float32)
    sampling = Sampling(steps=1, margin=5, self_ensemble=2, scales=3)
    expected = restorer.restore(torch.from_numpy(y), sampling=sampling).prior.clamp(0, 1)
    np.testing.assert_allclose(Prior(restorer, sampling).restore(y).clear, expected, atol=1e-6)


def test_a_model_without_prior_has_no_ensemble() -> None:
    with pytest.raises(UsageError, match="lacks"):
        _restorer(wa=False).restore(torch.rand(1, 3, 8, 8), sampling=Sampling(steps=1, self_ensemble=2))


def test_sampling_that_settles_takes_fewer_steps_whatever_the_batch() -> None:
    restorer, y = _restorer(), torch.rand(2, 3, 9, 12)
    every, taken = Sampling(steps=20), []
    settling = every.model_copy(update={"settle": 0.5})  # no step moves x0 by more
    alone = restorer.restore(y[:1], sampling=settling, on_step=lambda step: taken.append(step.index)).clear
    assert taken == [0, 1]
    torch.testing.assert_close(restorer.restore(y, sampling=settling).clear[:1], alone)
    exact = restorer.restore(y, sampling=every).clear
    assert torch.equal(restorer.restore(y, sampling=every.model_copy(update={"settle": 1e-9})).clear, exact)
    assert not torch.equal(exact[:1], alone)


def test_the_prior_has_half_its_weight_where_the_estimates_lie_as_far_apart_as_the_tolerance() -> None:
    restorer, y = _restorer(), torch.rand(1, 3, 16, 16)  # within the window: all pixels are as far apart
    diffusion, own = Sampling(steps=1, weight_floor=0, weight_ceiling=0), []
    prior = restorer.restore(y, sampling=diffusion, on_step=lambda step: own.append(step.x0 / 2 + 0.5)).prior
    apart = float((own[0] - prior).square().mean().sqrt())
    w = restorer.restore(y, sampling=Sampling(steps=1, weight_floor=1, weight_tolerance=apart)).w
    torch.testing.assert_close(w, torch.full_like(y, 0.5), atol=1e-3, rtol=0)


def test_the_weights_of_one_step_and_the_mean_of_all() -> None:
    restorer, y, steps = _restorer(), torch.rand(1, 3, 9, 12), Sampling(steps=3, samples=2, weight_floor=0)
    seen: dict[int, list[torch.Tensor]] = {1: [], 2: [], 3: []}

    def keep(step) -> None:  # type: ignore[no-untyped-def]
        seen[step.index + 1].append(step.w[..., :9, :12])

    mean = restorer.restore(y, sampling=steps, on_step=keep).w
    chosen = {k: restorer.restore(y, sampling=steps, weights_step=k).w for k in seen}
    for k, drawn in seen.items():
        torch.testing.assert_close(chosen[k], torch.stack(drawn).mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mean, torch.stack(list(chosen.values())).mean(0), rtol=1e-5, atol=1e-6)
    assert not torch.equal(chosen[1], chosen[3])


def test_a_calibrated_spread_reaches_the_file_and_is_explained(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "in.tif", "w", driver="GTiff", count=3, height=20, width=24, dtype="uint8", crs="EPSG:32633",
        transform=Affine(10, 0, 5e5, 0, -10, 4e6),
    ) as file:  # fmt: skip
        file.write(np.random.default_rng(0).integers(1, 255, (3, 20, 24)).astype(np.uint8))
    restorer, found = _restorer(wa=False), []
    for factors in ((), (2.0, 3.0, 0.5)):
        restorer.card = restorer.card.model_copy(update={"spread_scale": factors})
        report = restore_scene(
            tmp_path / "in.tif", tmp_path / "out.tif", model=restorer, sampling=Sampling(steps=2, samples=2),
            uncertainty_out=tmp_path / "u.tif", report=tmp_path / "r.html", overwrite=True,
        )  # fmt: skip
        with rasterio.open(tmp_path / "u.tif") as file:
            found.append(file.read())
        assert report.uncertainty is not None
        assert escape(report.uncertainty) in (tmp_path / "r.html").read_text()
        assert ("not compared with true errors" in report.uncertainty) == (not factors)
    assert "b0 2, b1 3, b2 0.5" in report.uncertainty
    np.testing.assert_allclose(found[1], found[0] * np.array([2, 3, 0.5])[:, None, None], rtol=1e-5)
