"""Every public data set is read from a miniature of its layout; what a download lacks is said."""

import shutil

import numpy as np
import pytest

from unclouded.datasets import catalog, miniature
from unclouded.datasets.pairs import read_pairs
from unclouded.errors import UncloudedError, UsageError

NAMES = sorted(catalog.catalog())


def test_the_papers_data_sets_are_all_there():
    assert len(NAMES) == 11
    for entry in catalog.catalog().values():
        assert entry.home.startswith("http")
        assert entry.citation
        assert entry.layout


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    top = tmp_path_factory.mktemp("miniatures")
    for name in NAMES:
        miniature.generate(name, top / name, pairs=4, size=24)
    return top


@pytest.mark.parametrize("name", NAMES)
def test_a_miniature_is_read_as_the_catalog_says(root, name):
    entry = catalog.get(name)
    pairs = read_pairs(root / name, dataset=name)
    assert len(pairs) == (12 if name == "sen12ms-cr-ts" else 4)
    assert len({pair.stem for pair in pairs}) == len(pairs)
    for pair in pairs:
        frames, clear, sar = pair.read_frames(), pair.read_clear(), pair.read_sar()
        assert frames.shape == (min(entry.frames, 3), len(entry.bands), 24, 24)
        assert clear.shape == (len(entry.bands), 24, 24)
        assert frames.dtype == clear.dtype == entry.dtype
        assert frames.mean() > clear.mean()  # clouds are bright
        assert (sar is not None) == entry.sar
        assert sar is None or (sar.shape == (2, 24, 24) and sar.max() < 0)


@pytest.mark.parametrize("name", [n for n in NAMES if "test" in catalog.get(n).counts and n != "whus2-cr"])
def test_published_parts_are_parts(root, name):
    train, test = (read_pairs(root / name, part, name) for part in ("train", "test"))
    assert (len(train), len(test)) == (3, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_check_counts_and_finds_damage(root, tmp_path, name):
    copy = shutil.copytree(root / name, tmp_path / name)
    report = catalog.check(name, copy)
    assert report.problems == []
    assert bool(report.missing) == bool(catalog.get(name).counts)
    victim = read_pairs(copy, dataset=name)[-1].clear
    victim.write_bytes(victim.read_bytes()[:40])
    if name != "sen12ms-cr-ts":  # there the damaged date is met while the clearest one is sought
        assert any(str(victim) in problem for problem in catalog.check(name, copy).problems)
    else:
        assert catalog.check(name, copy).problems


@pytest.mark.parametrize("name", NAMES)
def test_another_layout_says_what_was_looked_for(tmp_path, name):
    (tmp_path / "something").mkdir()
    with pytest.raises(UsageError, match="does not have the layout of"):
        read_pairs(tmp_path, dataset=name)


def test_partners_that_lack_are_named(root, tmp_path):
    copy = shutil.copytree(root / "sen12ms-cr", tmp_path / "s")
    next(copy.rglob("*_s2_1_p1.tif")).unlink()
    with pytest.raises(UncloudedError, match=r"s2_cloudy_1_p1\.tif has no partner of kind s2"):
        read_pairs(copy, dataset="sen12ms-cr")
    copy = shutil.copytree(root / "cuhk-cr1", tmp_path / "c")
    next((copy / "nir").rglob("label/1.png")).unlink()
    with pytest.raises(UncloudedError, match="has no near infrared"):
        read_pairs(copy, dataset="cuhk-cr1")
    shutil.rmtree(copy / "nir")
    assert read_pairs(copy, dataset="cuhk-cr1")[0].read_clear().shape[0] == 3
    copy = shutil.copytree(root / "sen2-mtc-new", tmp_path / "m")
    next(copy.rglob("cloud/*_1.tif")).unlink()
    with pytest.raises(UncloudedError, match="three cloudy frames"):
        read_pairs(copy, dataset="sen2-mtc-new")


def test_near_infrared_is_the_fourth_band(root):
    pair = read_pairs(root / "cuhk-cr1", dataset="cuhk-cr1")[0]
    from unclouded.datasets.images import read_image

    np.testing.assert_array_equal(pair.read_clear()[3], read_image(pair.more_clear[0])[0])


def test_tiles_of_whole_scenes_may_lie_in_parts(root, tmp_path):
    for part in ("train", "val"):
        shutil.copytree(root / "whu-cloud", tmp_path / part)
    assert [pair.part for pair in read_pairs(tmp_path, dataset="whu-cloud")] == ["train"] * 4 + ["val"] * 4
    assert [pair.stem for pair in read_pairs(tmp_path, "val", "whu-cloud")] == [f"val-{n}" for n in range(1, 5)]


def test_known_leaks_can_be_left_out(root, tmp_path):
    old = root / "sen2-mtc-old"
    assert (
        len(read_pairs(old, dataset="sen2-mtc-old")) - len(read_pairs(old, dataset="sen2-mtc-old", drop_leaks=True))
        == 1
    )
    top = miniature.generate("cuhk-cr1", tmp_path, pairs=3)
    for tree in ("CUHK-CR1", "nir/CUHK-CR1"):
        for kind in ("cloud", "label"):
            shutil.copy(top / tree / "test" / kind / "3.png", top / tree / "test" / kind / "102.png")
    assert catalog.check("cuhk-cr1", top).leaks == 1
    kept = {pair.stem for pair in read_pairs(top, "test", "cuhk-cr1", drop_leaks=True)}
    assert kept == {"test-3"}


def test_the_clearest_date_is_the_target(root):
    for pair in read_pairs(root / "sen12ms-cr-ts", dataset="sen12ms-cr-ts"):
        assert "_ImgNo_3_" in pair.clear.name  # the miniature writes the clear one last
        assert pair.clear not in (pair.cloudy, *pair.dates)


def test_an_unknown_set_names_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match=r"no data set 'rice3' in the catalog\. Choose one of: rice1, rice2"):
        read_pairs(tmp_path, dataset="rice3")


def test_real_sen12ms_cr_with_and_without_radar(data_dir):
    pairs = read_pairs(data_dir / "sen12mscr", dataset="sen12ms-cr")
    assert len(pairs) == 7
    assert [pair.stem for pair in pairs if pair.sar] == ["ROIs2017_winter_112_p797"]
    cloudy, clear = pairs[-1].read()
    assert cloudy.shape == clear.shape == (13, 256, 256)
    assert cloudy.dtype == np.uint16
    assert pairs[-1].read_sar().shape == (2, 256, 256)


def test_real_sen12ms_cr_ts_is_one_place_on_six_dates(data_dir):
    pairs = read_pairs(data_dir / "sen12mscr_ts", dataset="sen12ms-cr-ts")
    assert len(pairs) == 5
    assert len({pair.clear for pair in pairs}) == 1
    assert "2018-01-06" not in pairs[0].clear.name  # that date is overcast
    assert pairs[0].read_frames().shape == (5, 13, 256, 256)
