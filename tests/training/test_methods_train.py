"""Every method and data set through the one loop: trains, validates, leaves a card that loads and restores."""

from pathlib import Path

import numpy as np
import pytest
import torch

from own_files import write_geotiff
from unclouded.datasets import catalog
from unclouded.datasets.miniature import generate
from unclouded.errors import UncloudedError, UsageError
from unclouded.evaluation.evaluate import evaluate
from unclouded.evaluation.evaluate import load as load_pair
from unclouded.evaluation.methods import Model
from unclouded.evaluation.metrics import protocol
from unclouded.models import store
from unclouded.models.card import ModelCard
from unclouded.restore import load
from unclouded.training.data import fixed_pairs
from unclouded.training.export import notes
from unclouded.training.loop import Run, read_log, train
from unclouded.training.own import fit
from unclouded.training.perceptual import VGG16
from unclouded.training.perceptual import load as load_features
from unclouded.training.pools import PairPool
from unclouded.training.recipes import recipe
from unclouded.training.sources import open_pool
from unclouded.training.values import Recipe, Source

SMALL = {
    "spagan": {"features": 8},
    "amgan": {"features": 8, "blocks": 1, "passes": 2},
    "cvae": {"channels": 16, "depth": 1, "heads": 2, "latent": 4},
    "pix2pix": {"features": 8, "levels": 4},
    "memorynet": {"features": 8, "unet_step": 4, "ors_step": 4, "blocks": 1},
    "msda": {"features": 8},
}


def small(name: str, *more: str, steps: int = 2, size: int = 32, batch: int = 2, lr: float = 1e-3) -> Recipe:
    """The recipe `name` with small networks and few steps; `more` are further settings."""
    full = recipe(name)
    settings = ["validation_limit=1", "sampling.steps=2"]
    prior = getattr(full.model, "prior", None)
    if prior:
        settings.append(f"model.prior_options={SMALL[prior]}")
    if full.method == "diffcr":
        settings += ["model.width=8", "model.encoder_blocks=[1, 1]", "model.decoder_blocks=[1, 1]"]
    for part in ("cnp", "wa"):
        if getattr(full.model, part, None):
            settings += [f"model.{part}.{k}={v}" for k, v in (("channels", 16), ("res_blocks", 1), ("heads", 1),
                         ("multipliers", "[1, 2]"), ("attention", "[]"), ("patch", 2))]  # fmt: skip
    for stage in full.stages:
        values = {"steps": steps, "size": size, "batch_size": batch, "lr": lr, "ema": 0.9, "decay": 0.3}
        settings += [f"stages.{stage}.{key}={value}" for key, value in values.items()]
        settings.append(f"stages.{stage}.shrink=1")
    return recipe(name, [*settings, *more])


def miniature(dataset: str, root: Path, found: Recipe) -> Recipe:
    """The recipe on a generated miniature, whose parts are train and test alone (RICE: without any)."""
    generate(dataset, root, pairs=6, size=48)
    parts = {pair.part for pair in catalog.find_pairs(dataset, root)}
    sources = [Source(dataset=dataset, split=part if part in parts else None) for part in ("train", "test")]
    return found.model_copy(update={"sources": (sources[0],), "validation": (sources[1],)})


def run_all(found: Recipe, data: Path, out: Path) -> ModelCard:
    assert list(train(found, Run(data, out, accelerator="cpu")))
    return store.read_card(out / f"{found.name}.safetensors")


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("cvae-rice1", "rice1"),
        ("de-pix2pix-cuhk-cr1", "cuhk-cr1"),
        ("de-spagan-cuhk-cr2", "cuhk-cr2"),
        ("diffusion-rice2", "rice2"),
        ("memorynet-t-cloud", "t-cloud"),
        ("amgan-whus2-cr", "whus2-cr"),
        ("msda-sen12ms-cr", "sen12ms-cr"),
        ("diffcr-sen2-mtc-new", "sen2-mtc-new"),
        ("diffcr-sen2-mtc-old-n2", "sen2-mtc-old"),
        ("diffcr-sen12ms-cr-ts-eps", "sen12ms-cr-ts"),
        ("diffcr-sen12ms-cr-ts-sar", "sen12ms-cr-ts"),
        ("diffcr-sen2-mtc-old-none", "sen2-mtc-old"),
        ("de-spagan-sen12ms-cr-sar", "sen12ms-cr"),
        ("de-msda-sen2-mtc-new-n3", "sen2-mtc-new"),
    ],
)
def test_methods_and_data_sets_meet_in_the_one_loop(name: str, dataset: str, tmp_path: Path) -> None:
    """With all bands and dates of the published layout; the exported card builds the method and restores an image."""
    found = miniature(dataset, tmp_path / "data", small(name))
    card = run_all(found, tmp_path / "data", tmp_path / "out")
    entry = catalog.get(dataset)
    assert (card.method, card.bands.names) == (found.method, entry.bands)
    assert card.training is not None
    assert card.training.data == (dataset,)
    validated = [entry["validation"] for entry in read_log(tmp_path / "out") if entry["validation"]]
    assert len(validated) == len(found.stages)
    restorer = load(str(tmp_path / "out" / f"{name}.safetensors"), device="cpu")
    y = torch.rand(1, found.frames * len(entry.bands) + found.sar, 24, 40)
    assert restorer.restore(y).clear.shape == (1, len(entry.bands), 24, 40)
    pairs = catalog.find_pairs(dataset, tmp_path / "data")[:2]
    method = Model(restorer, restorer.card.sampling)
    assert [score.stem for score in evaluate(method, pairs, protocol("standard"))] == [pair.stem for pair in pairs]


def test_frames_and_bands_arrive_in_order(tmp_path: Path) -> None:
    """[frames·C, H, W]: the pair's own date first; 16 bits as reflectance, near infrared from its own folder."""
    generate("sen2-mtc-new", tmp_path / "mtc", pairs=3, size=16)
    pair = catalog.find_pairs("sen2-mtc-new", tmp_path / "mtc")[0]
    pool = PairPool([pair], recipe("diffcr-sen2-mtc-new").band_set, frames=2)
    [(y, x0)] = fixed_pairs(pool, 1, 16)
    np.testing.assert_allclose(y, np.concatenate(pair.read_frames()[:2]) / 1e4, rtol=1e-6)
    np.testing.assert_allclose(x0, pair.read_clear() / 1e4, rtol=1e-6)
    generate("cuhk-cr1", tmp_path / "cuhk", pairs=3, size=16)
    source = recipe("msda-cuhk-cr1").sources[0]
    [(y, _)] = fixed_pairs(open_pool(source, tmp_path / "cuhk", recipe("msda-cuhk-cr1").band_set), 1, 16)
    assert y.shape == (4, 16, 16)


@pytest.mark.slow
def test_de_learns_on_13_bands_and_sentinel_1_of_real_pairs(data_dir: Path, tmp_path: Path) -> None:
    """SEN12MS-CR: the losses of CNP and prior fall, the radar image has its say, and a pair without it is refused."""
    wide = ("model.cnp.channels=32", "model.cnp.patch=1")  # 13 bands of noise must pass
    full = small("de-spagan-sen12ms-cr-sar", *wide, "stages.coarse.steps=120", steps=60, batch=4, lr=2e-3)
    source = Source(path="sen12mscr", dataset="sen12ms-cr", split="train")
    found = full.model_copy(update={"sources": (source,), "validation": (source,)})
    run_all(found, data_dir, tmp_path)
    for stage, term in (("prior", "l1"), ("coarse", "ddpm")):
        curve = [entry["losses"][term] for entry in read_log(tmp_path, [stage])]
        print(stage, curve)
        assert curve[-1] < 0.8 * curve[0]
    restorer = load(str(tmp_path / f"{found.name}.safetensors"), device="cpu")
    pairs = catalog.find_pairs("sen12ms-cr", data_dir / "sen12mscr")
    with_radar = [pair for pair in pairs if pair.sar]
    method = Model(restorer, restorer.card.sampling)
    y, _ = load_pair(with_radar[0], method)
    silent = y.copy()
    silent[13:] = 0
    batch = torch.from_numpy(np.stack([y, silent])[:, :, :64, :64])
    heard, unheard = restorer.restore(batch).clear
    assert (heard - unheard).abs().max() > 1e-3
    with pytest.raises(UncloudedError, match="has no Sentinel-1 image, which the model takes"):
        next(evaluate(method, [pair for pair in pairs if not pair.sar], protocol("standard")))
    with pytest.raises(UncloudedError, match=r"13 bands .* and 2 of Sentinel-1"):
        restorer.restore(torch.rand(1, 13, 32, 32))


def test_sentinel_1_comes_after_the_dates_and_pairs_without_it_are_left_out(tmp_path: Path, caplog) -> None:
    """dB of VV and VH from −25 and −32.5 to 0 become 0 to 1."""
    generate("sen12ms-cr", tmp_path, pairs=3, size=16)
    pairs, bands = catalog.find_pairs("sen12ms-cr", tmp_path), recipe("de-msda-sen12ms-cr-sar").band_set
    pool = PairPool(pairs, bands, sar=2)
    y, x0 = pool.whole(0)
    assert (y.shape, x0.shape) == ((15, 16, 16), (13, 16, 16))
    low = np.array([-25, -32.5], np.float32)[:, None, None]
    np.testing.assert_allclose(y[13:], np.clip(1 - pairs[0].read_sar() / low, 0, 1), atol=1e-6)
    np.testing.assert_allclose(y[:13], pairs[0].read_cloudy() / 1e4, rtol=1e-6)
    assert pool.draw(np.random.default_rng(0), 8)[0].shape == (15, 8, 8)
    pairs[0].sar[0].unlink()
    source = Source(dataset="sen12ms-cr")
    assert len(open_pool(source, tmp_path, bands, sar=2)) == 2
    assert "1 of 3 pairs" in caplog.text
    for pair in pairs[1:]:
        pair.sar[0].unlink()
    with pytest.raises(UncloudedError, match=r"None of the 3 pairs of .* has a Sentinel-1 image"):
        open_pool(source, tmp_path, bands, sar=2)
    with pytest.raises(UsageError, match="Simulated pairs have no Sentinel-1 image"):
        open_pool(Source(kind="landscapes"), tmp_path, bands, sar=2)


def test_pairs_that_do_not_fit_into_memory_are_read_when_drawn(tmp_path: Path) -> None:
    generate("rice1", tmp_path, pairs=3, size=32)
    pairs, bands = catalog.find_pairs("rice1", tmp_path), recipe("base").band_set
    kept, read = PairPool(pairs, bands), PairPool(pairs, bands, keep=0)
    assert read.images is None
    for a, b in zip(*(p.draw(np.random.default_rng(3), 16) for p in (kept, read)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_too_few_dates_and_other_bands_are_named(tmp_path: Path) -> None:
    generate("rice1", tmp_path, pairs=3, size=32)
    pairs = catalog.find_pairs("rice1", tmp_path)
    with pytest.raises(UncloudedError, match="has 1 cloudy dates, but the recipe takes 3"):
        PairPool(pairs, recipe("base").band_set, frames=3)
    with pytest.raises(UncloudedError, match=r"has 3 bands, but the recipe names 4.*--bands"):
        PairPool(pairs, recipe("rgbn").band_set)


def test_any_recipe_trains_on_clear_images_under_simulated_clouds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(2):
        names = ("B2", "B3", "B4", "B8", "B11")
        write_geotiff(tmp_path / "clear" / f"{n}.tif", rng.integers(200, 3000, (5, 96, 96), dtype=np.uint16), names)
    found = fit(small("diffcr-sen2-mtc-new"), tmp_path / "clear", simulate=True)
    assert (found.name, found.bands[-1], found.units) == ("diffcr-sen2-mtc-new-simulated", "B11", "reflectance")
    card = run_all(found, tmp_path / "clear", tmp_path / "out")
    assert card.training is not None
    assert card.training.data == ("clear under simulated clouds",)
    y, x0 = open_pool(found.sources[0], tmp_path / "clear", found.band_set, 3).draw(np.random.default_rng(1), 32)
    assert (y.shape, x0.shape) == ((15, 32, 32), (5, 32, 32))


def test_msdas_perceptual_term_is_there_or_its_absence_is_said(tmp_path: Path) -> None:
    generate("rice1", tmp_path / "data", pairs=3, size=32)
    plain = miniature("rice1", tmp_path / "data", small("msda-rice1"))
    assert "without its paper's perceptual term" in notes(plain)[0]
    assert any("perceptual" in limit for limit in run_all(plain, tmp_path / "data", tmp_path / "plain").limits)
    torch.save(VGG16().state_dict() | {"classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg.pth")
    whole = plain.model_copy(update={"perceptual": str(tmp_path / "vgg.pth")})
    steps = list(train(whole, Run(tmp_path / "data", tmp_path / "whole", accelerator="cpu")))
    assert "perceptual" in steps[0].losses
    assert not notes(whole)
    assert not notes(small("spagan-rice1"))
    saved = torch.load(tmp_path / "whole" / "prior.ckpt")["model"]
    assert set(saved) == {"prior", "discriminator"}
    with pytest.raises(UsageError, match=r"no network file nowhere.*download\.pytorch\.org"):
        load_features("nowhere")


def test_a_run_made_of_copied_checkpoints_writes_its_model(tmp_path: Path) -> None:
    """How the paper's variants share stages: de-…-weights is de-… without its last stage."""
    full = miniature("rice1", tmp_path / "data", small("de-msda-rice1"))
    run_all(full, tmp_path / "data", tmp_path / "full")
    short = full.model_copy(update={"name": "short", "stages": {n: s for n, s in full.stages.items() if n != "joint"}})
    (tmp_path / "short").mkdir()
    for stage in short.stages:
        (tmp_path / "short" / f"{stage}.ckpt").write_bytes((tmp_path / "full" / f"{stage}.ckpt").read_bytes())
    assert not list(train(short, Run(tmp_path / "data", tmp_path / "short", accelerator="cpu")))
    assert store.read_card(tmp_path / "short" / "short.safetensors").name == "short"
