"""Pairs are matched by name and checked before use; what does not fit is named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unclouded.datasets.images import image_facts, read_image, write_tiff
from unclouded.datasets.pairs import Pair, check_pairs, read_pairs, read_targets
from unclouded.errors import UncloudedError, UsageError


def picture(path: Path, size: tuple[int, int] = (16, 12), mode: str = "RGB", seed: int = 0) -> np.ndarray:
    """Write random pixels and return them as [C, H, W]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], bands), dtype=np.uint8)
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    Image.fromarray(pixels.squeeze(), mode=None).save(path, **lossless)
    return pixels.transpose(2, 0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("2.png", "10.webp", "b.png")):
        picture(tmp_path / "cloud" / name, seed=i)
        picture(tmp_path / "label" / Path(name).with_suffix(".png").name, seed=i + 10)
    return tmp_path


def test_folders_pair_by_stem_in_natural_order(folder):
    pairs = read_pairs(folder)
    assert [pair.stem for pair in pairs] == ["2", "10", "b"]
    assert [pair.cloudy.name for pair in pairs] == ["2.png", "10.webp", "b.png"]
    cloudy, clear = pairs[1].read()
    assert cloudy.shape == clear.shape == (3, 12, 16)
    assert not np.array_equal(cloudy, clear)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_every_format_gives_back_its_pixels(tmp_path, name):
    if name.endswith("tif"):
        pixels = np.random.default_rng(0).integers(0, 60_000, (5, 7, 9), dtype=np.uint16)
        write_tiff(tmp_path / name, pixels)
    else:
        pixels = picture(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), pixels)
    facts = image_facts(tmp_path / name)
    assert (facts.bands, facts.height, facts.width, facts.dtype) == (*pixels.shape, pixels.dtype.name)


def test_transparency_is_no_band_and_grey_is_one(tmp_path):
    rgba = picture(tmp_path / "a.png", mode="RGBA")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), rgba[:3])
    assert read_image(tmp_path / "a.png").shape[0] == image_facts(tmp_path / "a.png").bands == 3
    picture(tmp_path / "g.png", mode="L")
    assert read_image(tmp_path / "g.png").shape == (1, 12, 16)


def test_a_missing_partner_is_named(folder):
    (folder / "label" / "10.png").unlink()
    with pytest.raises(UncloudedError, match=r"1 images of .*cloud have no partner .*10\.webp"):
        read_pairs(folder)


@pytest.mark.parametrize(
    ("mode", "size", "said"),
    [
        ("RGB", (17, 12), r"label/2\.png is 17x12 with 3 bands"),
        ("L", (16, 12), r"label/2\.png is 16x12 with 1 band of"),
    ],
)
def test_partners_of_other_size_or_bands_are_named(folder, mode, size, said):
    picture(folder / "label" / "2.png", size, mode)
    with pytest.raises(UncloudedError, match=said):
        read_pairs(folder)


def test_one_set_has_one_number_of_bands_and_one_dtype(folder):
    for sub in ("cloud", "label"):
        picture(folder / sub / "b.png", mode="L")
    with pytest.raises(UncloudedError, match=r"b\.png is 16x12 with 1 band of uint8, but .*2\.png"):
        read_pairs(folder)


def test_a_damaged_file_is_listed_and_not_met_later(folder):
    path = folder / "cloud" / "b.png"
    path.write_bytes(path.read_bytes()[:-60])  # the header is whole, the pixels are not
    assert len(read_pairs(folder)) == 3
    pairs, problems = check_pairs(folder)
    assert len(pairs) == 3
    assert len(problems) == 1
    assert "b.png cannot be read" in problems[0]
    path.write_bytes(b"not an image")
    with pytest.raises(UncloudedError, match=r"b\.png cannot be read"):
        read_pairs(folder)


def test_a_manifest_names_files_parts_and_stems(folder):
    manifest = folder / "pairs.csv"
    manifest.write_text("cloudy,clear,split,stem\ncloud/2.png,label/b.png,train,x\ncloud/b.png,label/2.png,test,y\n")
    for path in (manifest, folder):
        pairs = read_pairs(path, "test")
        assert pairs == [Pair("y", folder / "cloud/b.png", folder / "label/2.png", part="test")]
    assert [pair.stem for pair in read_pairs(folder)] == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "It needs `cloudy` and `clear`"),
        ("cloudy,clear\n", "lists no pairs"),
        ("cloudy,clear\ncloud/2.png,\n", "Line 2 of .* names no cloudy or no clear"),
        ("cloudy,clear\ncloud/2.png,label/nowhere.png\n", "nowhere.png, which is absent"),
        (
            "cloudy,clear\ncloud/2.png,label/2.png\ncloud/2.png,label/b.png\n",
            "Lines 2 and 3 of .* have the same stem '2'",
        ),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong(folder, text, said):
    (folder / "pairs.csv").write_text(text)
    with pytest.raises(UncloudedError, match=said):
        read_pairs(folder)


def test_dates_and_radar_that_do_not_fit_are_named(folder):
    """A further date has the bands, dtype and size of its pair, Sentinel-1 two bands of its size."""
    picture(folder / "more" / "grey.png", mode="L")
    picture(folder / "more" / "date.png")
    write_tiff(folder / "more" / "deep.tif", np.zeros((3, 12, 16), np.uint16))
    for bands, size in ((2, (12, 16)), (3, (12, 16)), (2, (6, 8))):
        write_tiff(folder / "more" / f"radar{bands}x{size[0]}.tif", np.full((bands, *size), -9, np.float32))

    def problems(dates: str, sar: str) -> list[str]:
        row = f"cloud/2.png,label/2.png,{dates},more/{sar}"
        (folder / "pairs.csv").write_text(f"cloudy,clear,dates,sar\n{row}\n")
        return check_pairs(folder)[1]

    assert problems("more/date.png", "radar2x12.tif") == []
    assert "grey.png is 16x12 with 1 band of uint8, but" in problems("more/date.png;more/grey.png", "radar2x12.tif")[0]
    assert "deep.tif is 16x12 with 3 bands of uint16, but" in problems("more/deep.tif", "radar2x12.tif")[0]
    assert "where Sentinel-1's VV and VH were looked for" in problems("more/date.png", "radar3x12.tif")[0]
    assert "radar2x6.tif is 8x6" in problems("more/date.png", "radar2x6.tif")[0]


def test_the_first_dates_are_read_alone(folder):
    (folder / "pairs.csv").write_text("cloudy,clear,dates\ncloud/2.png,label/2.png,cloud/b.png;cloud/2.png\n")
    [pair] = read_pairs(folder)
    assert pair.frames == len(pair.read_frames()) == 3
    np.testing.assert_array_equal(
        pair.read_frames(2), np.stack([read_image(folder / "cloud" / n) for n in ("2.png", "b.png")])
    )
    np.testing.assert_array_equal(pair.read_frames(1)[0], pair.read_cloudy())


def test_a_split_may_be_a_file_or_stems(folder):
    (folder / "mine.txt").write_text("# chosen by hand\nb  # the last\n2\n")
    assert [p.stem for p in read_pairs(folder, str(folder / "mine.txt"))] == ["2", "b"]
    assert [p.stem for p in read_pairs(folder, ["10"])] == ["10"]


def test_a_split_that_names_absent_images_is_refused(folder):
    with pytest.raises(UncloudedError, match=r"names 58 of 60 images that are not in|names 60 of 60 images"):
        read_pairs(folder, "rice2-val")
    with pytest.raises(UsageError, match=r"There is no split 'test'\. Give one of rice1-train"):
        read_pairs(folder, "test")


def test_another_layout_says_what_was_looked_for(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(UsageError, match=r"has neither .* nor cloudy/ and clear/ nor pairs\.csv; it holds images"):
        read_pairs(tmp_path)
    with pytest.raises(UncloudedError, match="There is no folder or CSV manifest"):
        read_pairs(tmp_path / "nowhere")
    for sub in ("cloud", "label"):
        (tmp_path / sub).mkdir()
    with pytest.raises(UncloudedError, match="holds no images"):
        read_pairs(tmp_path)


def test_folders_may_be_named_as_the_manifest_names_its_columns(folder):
    expected = [pair.stem for pair in read_pairs(folder)]
    (folder / "cloud").rename(folder / "cloudy")
    (folder / "label").rename(folder / "clear")
    pairs = read_pairs(folder)
    assert [pair.stem for pair in pairs] == expected
    assert {(pair.cloudy.parent.name, pair.clear.parent.name) for pair in pairs} == {("cloudy", "clear")}
    assert read_targets(folder) is None
    shutil.rmtree(folder / "clear")
    assert [stem for stem, _ in read_targets(folder)] == expected


def test_two_files_of_one_stem_are_refused(folder):
    picture(folder / "cloud" / "2.webp")
    with pytest.raises(UncloudedError, match="share one stem"):
        read_pairs(folder)


def test_cloudy_images_alone_are_targets(folder, tmp_path):
    assert read_targets(folder) is None
    for path in (folder / "label").iterdir():
        path.unlink()
    (folder / "label").rmdir()
    assert [stem for stem, _ in read_targets(folder)] == ["2", "10", "b"]
    assert [stem for stem, _ in read_targets(folder / "cloud")] == ["2", "10", "b"]
