"""Scores are those of the metrics on the files, whatever the batches; summaries are means with intervals."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from unclouded.datasets import miniature
from unclouded.datasets.pairs import read_pairs
from unclouded.errors import UncloudedError, UsageError
from unclouded.evaluation import methods, metrics
from unclouded.evaluation.evaluate import Score, compare_with, evaluate, read_csv, spread_out, summarise, write_csv
from unclouded.evaluation.methods import Input, Output, to_unit
from unclouded.scenes.bands import BandSet


@dataclass
class Dimmer:
    """A method that darkens, and remembers the batches it was given."""

    share: float = 0.9
    bands: BandSet | None = None
    what: str = "model"
    frames: int = 1
    sar = 0

    def __post_init__(self):
        self.batches = []

    def restore(self, cloudy):
        self.batches.append(cloudy.shape)
        return Output((self.share * cloudy).astype(np.float32))


@pytest.fixture(scope="module")
def rice(tmp_path_factory) -> Path:
    return miniature.generate("rice2", tmp_path_factory.mktemp("rice2"), pairs=5, size=30)


def test_the_cloudy_input_scores_as_its_bytes(rice):
    for pair, score in zip(read_pairs(rice), evaluate(Input(), read_pairs(rice), metrics.paper), strict=True):
        cloudy, clear = pair.read()
        assert score.stem == pair.stem
        assert score.values["psnr"] == metrics.psnr_uint8(cloudy, clear)
        assert score.values["ssim"] == metrics.ssim_luma(cloudy, clear)


def test_batches_do_not_matter_and_hold_one_size(rice, tmp_path):
    other = miniature.generate("rice2", tmp_path, pairs=2, size=41)
    pairs = [*read_pairs(rice), *read_pairs(other)]
    one = list(evaluate(Dimmer(), pairs, metrics.paper))
    method = Dimmer()
    assert list(evaluate(method, pairs, metrics.paper, batch_size=4)) == one
    assert method.batches == [(4, 3, 30, 30), (1, 3, 30, 30), (2, 3, 41, 41)]


def test_cloudy_and_clear_pixels_apart(rice):
    pair = read_pairs(rice)[0]
    score = next(evaluate(Input(), [pair], metrics.standard, cloud_threshold=0.05))
    cloudy, clear = (to_unit(image, None) for image in pair.read())
    mask = (np.abs(cloudy - clear) > 0.05).any(axis=0)
    assert 0.05 < mask.mean() < 1
    assert score.cloud_share == mask.mean()
    assert score.values["cloudy_mae"] == metrics.mae(cloudy, clear, mask)
    assert score.values["clear_mae"] == metrics.mae(cloudy, clear, ~mask) < score.values["cloudy_mae"]


def test_a_part_without_pixels_is_left_out(rice):
    score = next(evaluate(Input(), read_pairs(rice), metrics.paper, cloud_threshold=1.0))
    assert not any(name.startswith("cloudy_") for name in score.values)
    assert score.values["clear_psnr"] == score.values["psnr"]


def scores(values: list[dict[str, float]]) -> list[Score]:
    return [Score(str(i), 9, 9, 0.5, v) for i, v in enumerate(values)]


def test_summaries_are_means_and_ratios_of_sums():
    made = scores([
        {"psnr": 30.0, "gradient": 1.0, "gradient_truth": 2.0, "cloudy_psnr": 20.0},
        {"psnr": 34.0, "gradient": 8.0, "gradient_truth": 4.0},
    ])  # fmt: skip
    whole, cloudy = summarise(made), summarise(made, "cloudy_")
    assert set(whole) == {"psnr", "gradient_ratio"}
    assert whole["psnr"].mean == 32
    assert whole["psnr"].low <= 32 <= whole["psnr"].high
    assert whole["gradient_ratio"].mean == 1.5
    assert (set(cloudy), cloudy["psnr"].mean) == ({"psnr"}, 20)


def test_bias_of_a_darkened_image_is_its_share(rice):
    method = Dimmer(share=0.9)
    pairs = [p.__class__(p.stem, p.clear, p.clear) for p in read_pairs(rice)]  # clear in, darkened clear out
    summary = summarise(list(evaluate(method, pairs, metrics.standard)))
    for band in (1, 2, 3):
        assert summary[f"bias_{band}"].mean == pytest.approx(-0.1, abs=1e-6)
    assert summary["gradient_ratio"].mean == pytest.approx(0.81, rel=1e-5)


def test_paired_tests_join_by_stem(rice, tmp_path):
    pairs = read_pairs(rice)
    better, worse = (list(evaluate(Dimmer(share), pairs, metrics.paper)) for share in (0.8, 1.0))
    write_csv(tmp_path / "per_image.csv", worse[::-1])
    result = compare_with(better, read_csv(tmp_path))
    expected = np.mean([a.values["psnr"] - b.values["psnr"] for a, b in zip(better, worse, strict=True)])
    assert result["psnr"].difference == pytest.approx(expected)
    assert set(result) == {"psnr", "ssim", "mae"}
    with pytest.raises(UsageError, match="none of the 1 images"):
        compare_with([Score("z", 9, 9, 0, {"psnr": 1.0})], read_csv(tmp_path / "per_image.csv"))
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UncloudedError, match=r"x\.csv is not a per-image CSV"):
        read_csv(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(UncloudedError, match="it has no rows"):
        read_csv(tmp_path / "x.csv")


def test_bands_are_chosen_by_number(tmp_path):
    root = miniature.generate("sen12ms-cr", tmp_path, pairs=1, size=24)
    pairs = read_pairs(root, dataset="sen12ms-cr")
    rgb = Dimmer(bands=BandSet.reflectance("B4", "B3", "B2"))
    score = next(evaluate(rgb, pairs, metrics.standard, bands=[4, 3, 2]))
    chosen = pairs[0].read_cloudy()[[3, 2, 1]].astype(np.float32) / 10_000
    np.testing.assert_allclose(score.images.restored, 0.9 * chosen, rtol=1e-6)
    with pytest.raises(UsageError, match=r"gives 13 bands, but the model takes 3 \(B4, B3, B2\)"):
        next(evaluate(rgb, pairs, metrics.standard))
    with pytest.raises(UsageError, match="there is no band 14"):
        next(evaluate(rgb, pairs, metrics.standard, bands=[4, 3, 14]))


def test_several_dates_go_in_and_one_image_comes_out(tmp_path):
    class Darkest(Dimmer):
        def restore(self, cloudy):
            self.batches.append(cloudy.shape)
            return Output(cloudy.reshape(len(cloudy), -1, 4, *cloudy.shape[2:]).min(axis=1))

    root = miniature.generate("sen2-mtc-new", tmp_path, pairs=2, size=24)
    pairs = read_pairs(root, dataset="sen2-mtc-new")
    method = Darkest(frames=3)
    score = next(evaluate(method, pairs, metrics.standard))
    assert method.batches == [(1, 12, 24, 24)]
    expected = pairs[0].read_frames().min(axis=0) / 10_000
    np.testing.assert_allclose(score.images.restored, expected, atol=1e-6)
    assert score.values["psnr"] > next(evaluate(Input(), pairs, metrics.standard)).values["psnr"]


def test_coarser_pixels_are_means_of_blocks(rice):
    pair = read_pairs(rice)[0]
    score = next(evaluate(Input(), [pair], metrics.standard, shrink=2))
    assert (score.height, score.width) == (15, 15)
    blocks = pair.read_cloudy().reshape(3, 15, 2, 15, 2).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(score.images.restored, blocks, atol=1e-6)


@pytest.mark.usefixtures("one_thread")
def test_a_large_image_goes_through_tiles_and_one_tile_is_the_whole(tiny_models, tmp_path, monkeypatch):
    from unclouded.restore import load

    restorer = load(str(tiny_models / "de-msda-rice2.safetensors"), device="cpu")
    pairs = read_pairs(miniature.generate("rice2", tmp_path, pairs=1, size=72))
    method = methods.Model(restorer, restorer.card.sampling)
    whole = next(evaluate(method, pairs, metrics.standard))
    monkeypatch.setattr(methods, "WHOLE_PIXELS", 60 * 60)
    tiled = next(evaluate(method, pairs, metrics.standard))
    np.testing.assert_allclose(tiled.images.restored, whole.images.restored, atol=1e-6)
    assert tiled.values["psnr"] == pytest.approx(whole.values["psnr"], abs=1e-4)


def test_a_limit_is_spread_over_the_list():
    assert spread_out(list(range(10)), 3) == [0, 3, 6]
    assert spread_out(list(range(3)), 5) == spread_out(list(range(3)), None) == [0, 1, 2]
