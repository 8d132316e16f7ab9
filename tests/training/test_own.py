"""The recipe `own`: bands, units, cloudy dates and Sentinel-1 are those of the user's files."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from own_files import write_geotiff
from unclouded.cli import main
from unclouded.datasets.images import read_image
from unclouded.errors import UncloudedError, UsageError
from unclouded.models import store
from unclouded.restore import load
from unclouded.training.loop import Run, train
from unclouded.training.own import fit
from unclouded.training.pools import PairPool
from unclouded.training.recipes import keys, recipe
from unclouded.training.sources import open_pool
from unclouded.training.values import Recipe, Source
from unclouded.whole_scene import restore_scene


def own_pairs(root: Path, bands: int, count: int, names: tuple[str, ...] = ()) -> Path:
    rng = np.random.default_rng(0)
    for n in range(count):
        clear = rng.integers(200, 3000, (bands, 40, 40), dtype=np.uint16)
        write_geotiff(root / "label" / f"{n}.tif", clear, names)
        write_geotiff(root / "cloud" / f"{n}.tif", (clear // 2 + 3000).astype(np.uint16), names)
    return root


def manifest(data: Path, dates: Sequence[int], radar: Sequence[bool], parts: Sequence[str] = ()) -> Path:
    """A CSV over `own_pairs`: pair n has so many cloudy dates (those of the pairs after it), and Sentinel-1 or not."""
    count = len(dates)
    lines = ["cloudy,clear,dates,sar,split"]
    for n, (frames, has_radar) in enumerate(zip(dates, radar, strict=True)):
        if has_radar:
            write_geotiff(data / "s1" / f"{n}.tif", np.full((2, 40, 40), -10 - n, np.float32))
        others = ";".join(f"cloud/{(n + further) % count}.tif" for further in range(1, frames))
        sar = f"s1/{n}.tif" if has_radar else ""
        lines.append(f"cloud/{n}.tif,label/{n}.tif,{others},{sar},{parts[n] if parts else ''}")
    (data / "pairs.csv").write_text("\n".join(lines))
    return data


TINY = ["model.prior_options={channels: [8, 16], blocks: [1, 1]}", "validation_limit=1", "sampling.steps=1"]
TINY += [f"model.{p}.channels=16" for p in ("cnp", "wa")]
TINY += [f"stages.{s}.{k}" for s in ("prior", "coarse", "weights", "joint")
         for k in ("steps=2", "batch_size=2", "size=32", "shrink=1")]  # fmt: skip


def tiny_own(data: Path, more: Sequence[str] = (), **options: object) -> Recipe:
    return fit(recipe("own", [*TINY, *more]), data, by_hand=keys(more), **options)  # type: ignore[arg-type]


def stems(source: Source, data: Path, found: Recipe) -> set[str]:
    pool = open_pool(source, data, found.band_set, found.frames, found.sar)
    assert isinstance(pool, PairPool)
    return {pair.stem for pair in pool.pairs}


def test_thirteen_bands_fill_in_the_card(tmp_path: Path) -> None:
    data = own_pairs(tmp_path / "alps", 13, 5)
    heard: list[str] = []
    found = tiny_own(data, say=heard.append)
    assert list(train(found, Run(data, tmp_path / "out", accelerator="cpu")))
    card = store.read_card(tmp_path / "out" / "own.safetensors")
    assert card.bands.names[7:10] == ("B8", "B8A", "B9")
    assert card.bands.units == "reflectance"
    assert card.architecture["cnp"]["in_channels"] == 26
    assert (card.architecture["frames"], card.architecture["sar"]) == (1, 0)
    assert card.summary == "Light DE, trained on own data"
    assert card.training is not None
    assert card.training.data == ("alps",)
    assert any("guesses" in limit for limit in card.limits)
    assert not heard


def test_two_dates_with_radar_are_found_and_asked_for_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three bands, a second date and Sentinel-1 each: the networks are widened, the card says so, and `remove` wants
    --date and --sar."""
    data = manifest(own_pairs(tmp_path / "own", 3, 3), [2] * 3, [True] * 3)
    heard: list[str] = []
    found = tiny_own(data, say=heard.append)
    assert heard == [
        "The model takes 2 cloudy dates and Sentinel-1, which every pair has "
        "(a model without: --set model.frames=1 --set model.sar=0)."
    ]
    assert list(train(found, Run(data, tmp_path / "out", accelerator="cpu")))
    file = tmp_path / "out" / "own.safetensors"
    card = store.read_card(file)
    assert card.summary == "Light DE of 2 cloudy dates and Sentinel-1, trained on own data"
    shape = card.architecture
    widths = shape["cnp"]["in_channels"], shape["wa"]["in_channels"]
    assert (shape["frames"], shape["sar"], widths) == (2, 2, (3 + 3 + 2, 3 + 3 + 2 + 3))
    with pytest.raises(SystemExit, match="0"):
        main(["models", "info", str(file)])
    assert "2 cloudy dates, Sentinel-1 (VV, VH in dB)" in capsys.readouterr().out
    scene, options = data / "cloud" / "0.tif", {"model": load(str(file), device="cpu"), "value_range": (0, 10_000)}
    with pytest.raises(UsageError, match="takes cloudy images of 2 dates"):
        restore_scene(scene, tmp_path / "clear.tif", sar=data / "s1" / "0.tif", **options)
    with pytest.raises(UsageError, match="also takes Sentinel-1"):
        restore_scene(scene, tmp_path / "clear.tif", dates=[data / "cloud" / "1.tif"], **options)
    dates, sar = [data / "cloud" / "1.tif"], data / "s1" / "0.tif"
    restore_scene(scene, tmp_path / "clear.tif", dates=dates, sar=sar, **options)
    assert read_image(tmp_path / "clear.tif").shape == (3, 40, 40)


def test_each_pair_comes_with_its_own_date_and_radar(tmp_path: Path) -> None:
    data = manifest(own_pairs(tmp_path, 3, 3), [3] * 3, [True] * 3)
    found = tiny_own(data, ["model.frames=2"])
    pool = open_pool(found.sources[0], data, found.band_set, found.frames, found.sar)
    assert isinstance(pool, PairPool)
    y, _ = pool.whole(0)
    n = int(pool.pairs[0].stem)
    cloudy = [read_image(data / "cloud" / f"{(n + further) % 3}.tif") / 1e4 for further in (0, 1)]
    np.testing.assert_allclose(y[:6], np.concatenate(cloudy), rtol=1e-6)
    np.testing.assert_allclose(y[6:, 0, 0], [1 - (10 + n) / 25, 1 - (10 + n) / 32.5], rtol=1e-6)
    (data / "s1" / "2.tif").unlink()
    with pytest.raises(UncloudedError, match=r"Line 4 of .*pairs.csv names .*2.tif, which is absent"):
        open_pool(found.sources[0], data, found.band_set, 2, 2)


@pytest.mark.parametrize(
    ("dates", "radar", "found", "said"),
    [
        ([1] * 3, [True] * 3, (1, 2), "takes Sentinel-1, which every pair has"),
        ([4] * 3, [False] * 3, (4, 0), "takes 4 cloudy dates, which every pair has"),
        ([1] * 10, [True] * 9 + [False], (1, 2), "Sentinel-1, which 9 of 10 pairs have; the others are left out"),
        ([1] * 10, [True] * 8 + [False] * 2, (1, 0), "no Sentinel-1 image, since 2 of 10 pairs have none"),
        ([1] * 9, [True] * 8 + [False], (1, 0), "no Sentinel-1 image, since 1 of 9 pairs have none"),
        ([3] * 9 + [1], [False] * 10, (3, 0), "3 cloudy dates, which 9 of 10 pairs have; the others are left out"),
        ([5, 3, 2], [False] * 3, (2, 0), "the first 2 cloudy dates of each pair, though 2 of 3 pairs have more"),
        ([3, 1], [False] * 2, (1, 0), "takes one cloudy date of each pair, though 1 of 2 pairs have more, up to 3"),
        ([3] + [2] * 9 + [1], [True] * 11, (2, 2), "2 cloudy dates and Sentinel-1, which 10 of 11 pairs have"),
    ],
)  # fmt: skip
def test_what_is_mixed_is_taken_where_nearly_all_pairs_have_it(
    tmp_path: Path, dates: list[int], radar: list[bool], found: tuple[int, int], said: str
) -> None:
    """Nine in ten; and it is said, and trained on the pairs that have it all."""
    data = manifest(own_pairs(tmp_path, 1, len(dates)), dates, radar)
    heard: list[str] = []
    made = tiny_own(data, say=heard.append)
    assert (made.frames, made.sar) == found
    assert said in " ".join(heard)
    train_on, validate_on = (stems(source, data, made) for source in (made.sources[0], made.validation[0]))
    have = {str(n) for n in range(len(dates)) if dates[n] >= made.frames and (radar[n] or not made.sar)}
    assert train_on | validate_on == have
    assert not train_on & validate_on


def test_what_the_user_sets_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = manifest(own_pairs(tmp_path, 3, 3), [3] * 3, [True] * 3)
    heard: list[str] = []
    plain = tiny_own(data, ["model.frames=1", "model.sar=0", "summary=mine"], say=heard.append)
    assert (plain.frames, plain.sar, plain.summary, heard) == (1, 0, "mine", [])
    assert tiny_own(data, ["model.frames=2"]).model.model_dump(include={"frames", "sar"}) == {"frames": 2, "sar": 2}
    mixed = manifest(data, [1, 3, 3], [False, True, True])
    forced = tiny_own(mixed, ["model.frames=3", "model.sar=2"], say=heard.append)
    assert (forced.frames, forced.sar, heard) == (3, 2, [])
    assert "3 cloudy dates and Sentinel-1" in forced.summary
    assert stems(forced.sources[0], mixed, forced) | stems(forced.validation[0], mixed, forced) == {"1", "2"}
    assert "1 of 3 pairs" in caplog.text
    assert "fewer than 3 cloudy dates and are left out" in caplog.text
    none = manifest(data, [1] * 3, [False] * 3)
    with pytest.raises(UncloudedError, match=r"None of the 3 pairs .* has 2 cloudy dates\. Set model\.frames"):
        stems(Source(), none, tiny_own(none, ["model.frames=2"]))
    with pytest.raises(UncloudedError, match=r"None of the 3 pairs .* Sentinel-1 image\. Add them, or set model\.sar"):
        stems(Source(), none, tiny_own(none, ["model.sar=2"]))


def test_transplanted_clouds_want_neither(tmp_path: Path) -> None:
    data = manifest(own_pairs(tmp_path, 3, 3), [1] * 3, [True] * 3)
    with pytest.raises(UsageError, match=r"without Sentinel-1\. Set model\.frames to 1 and model\.sar to 0"):
        tiny_own(data, ["sources.0.transplanted=0.5"])
    assert tiny_own(data, ["sources.0.transplanted=0.5", "model.sar=0"]).sources[0].transplanted == 0.5


def test_parts_without_radar_do_not_validate_a_model_with_radar(tmp_path: Path) -> None:
    """A part val of pairs that are left out is none: the part test validates."""
    parts = ["train"] * 9 + ["val"] + ["test"]
    data = manifest(own_pairs(tmp_path, 1, 11), [1] * 11, [True] * 9 + [False, True], parts)
    found = tiny_own(data)
    assert (found.sar, found.sources[0].split, found.validation[0].split) == (2, "train", "test")
    assert stems(found.validation[0], data, found) == {"10"}
    assert tiny_own(data, ["model.sar=0"]).validation[0].split == "val"


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = manifest(own_pairs(tmp_path, 4, 2), [1] * 2, [True] * 2)
    command = ["train", "own", "--data", str(data / "pairs.csv"), "--out", str(tmp_path / "out"), "--show"]
    with pytest.raises(SystemExit, match="0"):
        main(command)
    out, err = capsys.readouterr()
    assert (json.loads(out)["model"]["sar"], json.loads(out)["model"]["cnp"]["in_channels"]) == (2, 10)
    assert re.fullmatch(r"Note: The model takes Sentinel-1, .*--set model\.sar=0\)\.\n", err)
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--set", "model.sar=0"])
    out, err = capsys.readouterr()
    assert (json.loads(out)["model"]["sar"], err) == (0, "")


def test_sen12ms_cr_by_its_layout_with_and_without_sentinel_1(data_dir: Path) -> None:
    """One of the seven real pairs has radar: too few to be taken unasked."""
    data, layout = data_dir / "sen12mscr", ["sources.0.dataset=sen12ms-cr"]
    heard: list[str] = []
    plain = tiny_own(data, layout, say=heard.append)
    assert (plain.sar, len(plain.bands), plain.units, plain.limits) == (0, 13, "reflectance", ())
    assert "6 of 7 pairs have none" in heard[0]
    parts = [stems(source, data, plain) for source in (plain.sources[0], plain.validation[0])]
    assert [len(part) for part in parts] == [6, 1]
    radar = tiny_own(data, [*layout, "model.sar=2"])
    pool = open_pool(radar.sources[0], data, radar.band_set, radar.frames, radar.sar)
    assert isinstance(pool, PairPool)
    assert [pair.stem for pair in pool.pairs] == ["ROIs2017_winter_112_p797"]
    assert pool.whole(0)[0].shape == (13 + 2, 256, 256)
    assert radar.model.cnp.in_channels == 13 + 13 + 2  # type: ignore[union-attr]


def test_a_known_layout_validates_on_the_same_data_when_the_split_is_by_hand(data_dir: Path) -> None:
    found = tiny_own(data_dir / "sen12mscr", ["sources.0.dataset=sen12ms-cr", "sources.0.share=[0, 0.5]"])
    assert [source.dataset for source in (*found.sources, *found.validation)] == ["sen12ms-cr", "sen12ms-cr"]


def test_own_bands_by_their_names_and_by_hand(tmp_path: Path) -> None:
    data = own_pairs(tmp_path / "own", 5, 4, ("blue", "green", "red", "rededge", "nir"))
    found = tiny_own(data)
    assert found.bands == ("blue", "green", "red", "rededge", "nir")
    assert not found.limits
    assert tiny_own(data, bands=list("abcde"), units="display").bands == tuple("abcde")
    with pytest.raises(UsageError, match="--bands names 2 bands, but the files have 5"):
        tiny_own(data, bands=["a", "b"])
    with pytest.raises(UsageError, match="a band name appears twice in a, b, c, d, a"):
        tiny_own(data, bands=list("abcda"))


@pytest.mark.parametrize("count", [2, 4, 25])
def test_held_out_pairs_are_not_trained_on(tmp_path: Path, count: int) -> None:
    data = own_pairs(tmp_path, 1, count)
    found = tiny_own(data)
    train_on, validate_on = (stems(source, data, found) for source in (*found.sources, *found.validation))
    assert not train_on & validate_on
    assert train_on | validate_on == {str(n) for n in range(count)}
    assert 0 < len(validate_on) <= max(1, count // 10 + 1)
