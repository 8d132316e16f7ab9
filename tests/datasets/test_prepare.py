"""`unclouded data prepare` on generated scenes with a known shift and known clouds."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from unclouded.cli import main
from unclouded.datasets import layouts
from unclouded.datasets.pairs import read_pairs
from unclouded.datasets.prepare import PrepareOptions, prepare
from unclouded.datasets.preparing.assemble import split_places
from unclouded.datasets.preparing.coverage import cloud_net
from unclouded.datasets.preparing.datasheet import histogram, histogram_svg
from unclouded.datasets.preparing.grid import Pixels
from unclouded.errors import UncloudedError, UsageError
from unclouded.models.cloudnet import CloudNet, CloudNetConfig, save_cloud_net
from unclouded.scenes.landscape import landscape

TILE, SIZE = 64, 256
SHIFT = (2.75, -1.5)  # rows, cols: cloudy(r + 2.75, c - 1.5) = clear(r, c)
OPTIONS = PrepareOptions(tile=TILE)


def write(path, dn, east=500_000, **options):
    place = {
        "crs": "EPSG:32631",
        "transform": Affine(2, 0, east, 0, -2, 5_000_000),
        "photometric": "minisblack",
    } | options
    place |= {"alpha": "unspecified"}  # GDAL takes a fourth band for transparency otherwise
    count, height, width = dn.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=dn.dtype, **place
    ) as f:
        f.write(dn)
    return path


def seen(fine, rows=0.0, cols=0.0):
    part = fine[:, round(16 - 4 * rows) :, round(16 - 4 * cols) :][:, : 4 * SIZE, : 4 * SIZE]
    return np.rint(part.reshape(4, SIZE, 4, SIZE, 4).mean((2, 4)) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Places a, b and c: scenes of 256 x 256; clouds cover columns 40 to 103 (of the clear scene) of the cloudy one."""
    folder = tmp_path_factory.mktemp("scenes")
    ground = landscape(np.random.default_rng(2), 4 * SIZE + 32, 4 * SIZE + 32, gsd=0.5)
    turned = (ground, ground[:, ::-1], ground[:, :, ::-1])
    for number, (name, fine) in enumerate(zip("abc", turned, strict=True)):
        cloudy, mask = seen(fine, *SHIFT), np.zeros((1, SIZE, SIZE), np.uint8)
        under = np.s_[:, :, round(40 + SHIFT[1]) : round(104 + SHIFT[1])]
        mask[under], cloudy[under] = 1, cloudy[under] // 4 + 180
        east = 500_000 + 5_000 * number
        write(folder / f"{name}_clear.tif", seen(fine), east)
        write(folder / f"{name}_cloudy.tif", cloudy, east)
        write(folder / f"{name}_mask.tif", mask, east)
    return folder


def job(folder, scenes, names="abc", **more):
    path = folder / "job.csv"
    rows = [{"place": n} | {k: str(scenes / f"{n}_{k}.tif") for k in ("cloudy", "clear", "mask")} | more for n in names]
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory, scenes):
    folder = tmp_path_factory.mktemp("made")
    done = list(prepare(job(folder, scenes), folder / "out", OPTIONS))
    assert [d.made for d in done] == [True] * 3
    return folder / "out"


def test_shift_is_found_within_a_tenth_of_a_pixel(benchmark):
    for place in json.loads((benchmark / "datasheet.json").read_text())["places"]:
        assert (place["shift"]["rows"], place["shift"]["cols"]) == pytest.approx(SHIFT, abs=0.1)
        assert place["shift"]["residual"] < 0.2


def test_pairs_are_aligned_once_applied(benchmark):
    """Outside of the clouds the pairs show the same ground."""
    for pair in read_pairs(benchmark):
        if pair.stem.endswith("_64"):  # columns 66 to 129 of the clear scene: no clouds from 104 on
            cloudy, clear = (image[:, 4:-4, 44:].astype(float) for image in pair.read())
            assert np.corrcoef(cloudy.ravel(), clear.ravel())[0, 1] > 0.97


def test_coverage_is_what_was_put_there(benchmark):
    """The grid begins at the clear scene's column 2, where both have data. Clouds over its columns 40 to 103: tiles
    from column 2 are covered by 26/64, from 66 by 38/64."""
    with (benchmark / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row["coverage"]) == pytest.approx({"0": 26 / 64, "64": 38 / 64}[row["col"]], abs=1.01 / 64)
    with (benchmark / "left_out.csv").open() as file:
        left_out = list(csv.DictReader(file))
    assert {(row["why"], row["col"]) for row in left_out} == {("clear", "128")}
    assert (len(rows), len(left_out)) == (3 * 6, 3 * 3)
    assert {float(row["left"]) - 500_004 - 2 * int(row["col"]) for row in rows} == {0, 5_000, 10_000}


def test_split_is_by_place_and_layout_is_cuhk(benchmark):
    pairs = read_pairs(benchmark)
    places = {part: {p.stem[0] for p in pairs if p.part == part} for part in ("train", "test")}
    assert (len(places["train"]), len(places["test"])) == (2, 1)
    assert not places["train"] & places["test"]
    assert pairs[0].read_cloudy().shape == (4, TILE, TILE)
    by_layout = layouts.cuhk("benchmark")(benchmark)
    assert {p.stem.split("-", 1)[1] for p in by_layout} == {p.stem for p in pairs}
    np.testing.assert_array_equal(
        by_layout[0].read_clear(), next(p for p in pairs if p.stem == by_layout[0].stem.split("-", 1)[1]).read_clear()
    )


def test_datasheet_counts_everything(benchmark):
    facts = json.loads((benchmark / "datasheet.json").read_text())
    pairs = read_pairs(benchmark)
    assert facts["pairs"] == {part: sum(p.part == part for p in pairs) for part in ("test", "train")}
    for part, counts in facts["coverage_histogram"].items():
        assert sum(counts) == facts["pairs"][part]
        assert f"{sum(counts)} pairs" in (benchmark / f"coverage_{part}.svg").read_text()
    assert "| a | a |" in (benchmark / "DATASHEET.md").read_text()


def test_the_same_command_again_keeps_places_and_makes_changed_ones(tmp_path, scenes, benchmark):
    mine, out = tmp_path / "scenes", tmp_path / "out"
    shutil.copytree(scenes, mine)
    path = job(tmp_path, mine)
    first = prepare(path, out, OPTIONS)
    next(first)
    first.close()  # interrupted after one place
    assert not (out / "pairs.csv").exists()
    (out / ".places" / ".b.partial").mkdir()  # and in the midst of another
    assert [d.made for d in prepare(path, out, OPTIONS)] == [False, True, True]
    assert (out / "pairs.csv").read_bytes() == (benchmark / "pairs.csv").read_bytes()
    assert not list(out.rglob("*.partial"))
    with rasterio.open(mine / "b_mask.tif", "r+") as mask:
        mask.write(np.ones((1, SIZE, SIZE), np.uint8))
    assert [d.made for d in prepare(path, out, OPTIONS)] == [False, True, False]
    facts = json.loads((out / "datasheet.json").read_text())
    assert facts["left_out"]["obscured"] > 0
    assert not [p for p in read_pairs(out) if p.stem.startswith("b")]


def test_unrelated_scenes_are_refused_and_the_others_kept(tmp_path, scenes):
    path = job(tmp_path, scenes)
    elsewhere = np.rint(landscape(np.random.default_rng(60), SIZE, SIZE, gsd=2.0) * 255).astype(np.uint8)
    write(tmp_path / "wrong.tif", elsewhere, 505_000)
    path.write_text(path.read_text().replace(str(scenes / "b_cloudy.tif"), str(tmp_path / "wrong.tif")))
    out = tmp_path / "out"
    with pytest.raises(UncloudedError, match=r"1 of 3 scene pairs.*wrong\.tif does not match .*b_clear\.tif"):
        list(prepare(path, out, OPTIONS))
    done = list(prepare(path, out, PrepareOptions(tile=TILE, skip_bad=True)))
    assert [(d.made, d.refused is None) for d in done] == [(False, True), (False, False), (False, True)]
    assert list(json.loads((out / "datasheet.json").read_text())["refused"]) == ["b"]


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


def test_other_grids_come_to_the_clear_one(tmp_path, scenes):
    """A cloudy scene in another coordinate system and of other pixels is found where it was."""
    from rasterio.vrt import WarpedVRT

    for name in "ab":
        for kind in ("cloudy", "mask"):
            with rasterio.open(scenes / f"{name}_{kind}.tif") as file, WarpedVRT(file, crs="EPSG:4326") as vrt:
                place = {"crs": vrt.crs, "transform": vrt.transform}
                write(tmp_path / f"{name}_{kind}.tif", vrt.read(), nodata=0 if kind == "cloudy" else None, **place)
        shutil.copy(scenes / f"{name}_clear.tif", tmp_path)
    done = list(prepare(job(tmp_path, tmp_path, "ab"), tmp_path / "out", OPTIONS))
    for place in done:
        assert (place.record["match"]["rows"], place.record["match"]["cols"]) == pytest.approx(SHIFT, abs=0.15)


def record(name, pairs, west):
    return {"place": name, "name": name, "kept": [{}] * pairs, "grid": {"lonlat": [west, 0, west + 1, 1]}}


def test_split_is_by_share_and_never_between_overlapping_places():
    records = [record(f"p{i}", 10, 2 * i) for i in range(50)]
    for seed in range(3):
        parts = split_places(records, 0.2, seed)
        assert sum(part == "test" for part in parts.values()) == 10
        assert parts == split_places(records[::-1], 0.2, seed)
    assert split_places(records, 0.2, 0) != split_places(records, 0.2, 1)
    chain = [record("a", 1, 0), record("c", 1, 1.8), record("b", 1, 0.9), record("far", 1, 50)]
    parts = split_places(chain, 0.2, 0)
    assert len({parts[p] for p in "abc"}) == 1
    assert parts["far"] != parts["a"]
    with pytest.raises(UsageError, match="cannot be split without a leak"):
        split_places(chain[:3], 0.2, 0)
    assert set(split_places(chain[:3], 0, 0).values()) == {"train"}
    with pytest.raises(UncloudedError, match="No pair is left"):
        split_places([record("a", 0, 0)], 0, 0)


def test_histogram_bins():
    assert histogram([0, 0.05, 0.1, 0.95, 1]) == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert histogram_svg([1, 3], "T", "red").count("<rect") == 3


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["data", "prepare", *(str(a) for a in arguments)])
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


def test_command(capsys, tmp_path, scenes):
    path = job(tmp_path, scenes)
    code, out, err = run(capsys, path, tmp_path / "out", "--tile", TILE, "--name", "MINE", "--json")
    assert code == 0
    assert json.loads(out)["pairs"]["train"] > 0
    assert "a: 6 pairs, 3 tiles left out; shift +2.7" in err
    assert (tmp_path / "out" / "MINE" / "train" / "cloud").is_dir()
    assert (tmp_path / "out" / "nir" / "MINE" / "test" / "label").is_dir()


@pytest.mark.parametrize(
    ("text", "name", "code", "said"),
    [
        ("place,cloudy\nx,y\n", "job.csv", 2, "It needs place, cloudy and clear"),
        ("place,cloudy,clear\n", "job.csv", 2, "lists no places"),
        ("place,cloudy,clear\nx,no.tif,no.tif\n", "job.csv", 1, "no.tif, which is absent"),
        ("place,cloudy,clear\n../x,job.csv,job.csv\n", "job.csv", 2, "files get this name"),
        ("place,cloudy,clear\nx,job.csv,job.csv\nx,job.csv,job.csv\n", "job.csv", 2, "'x' 2 times"),
        ("place,cloudy,clear\nx,job.csv,job.csv\n", "job.csv", 1, "is not an image that can be read"),
        ("places: {a: 1}", "job.yaml", 2, "has no list `places`"),
        ("places: [1", "job.yaml", 2, "is not valid"),
        ("places: [{place: a}]", "job.yaml", 2, "is wrong at places.0.cloudy"),
        ("", "job.txt", 2, "Give a .yaml or .csv file"),
    ],
)
def test_a_bad_job_is_one_sentence(capsys, tmp_path, text, name, code, said):
    (tmp_path / name).write_text(text)
    found, out, err = run(capsys, tmp_path / name, tmp_path / "out")
    assert (found, out) == (code, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--coverage", "guess"], "Use mask, cloud-net or brightening"),
        (["--coverage", "cloud-net", "--cloud-net", "absent.safetensors"], "There is no Cloud-Net file absent"),
        (["--least-coverage", "0.9", "--most-coverage", "0.1"], "leave nothing"),
        (["--test-share", "1"], "from 0 to below 1"),
        (["--stretch", "5"], "Give two numbers"),
        (["--stretch", "5,1"], "lower value first"),
        (["--name", "a/b"], "plain name"),
        (["--format", "jp2"], "Use png or tif"),
        (["--pixel-size", "-1"], "Give a positive number"),
    ],
)
def test_bad_options(capsys, tmp_path, arguments, said):
    code, _, err = run(capsys, tmp_path / "job.csv", tmp_path / "out", *arguments)
    assert code == 2
    assert said in err


def test_a_folder_of_other_things_is_left_alone(capsys, tmp_path, scenes):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    code, _, err = run(capsys, job(tmp_path, scenes), tmp_path / "out")
    assert code == 1
    assert "Choose an empty or new folder" in err


def test_yaml_job_with_floats_graded_mask_and_several_scenes_of_a_place(tmp_path, scenes):
    """Reflectance needs a stretch to become PNG; a float mask is a probability; one place stays in one part."""
    entries = []
    for name in "ab":
        for kind in ("cloudy", "clear"):
            with rasterio.open(scenes / f"{name}_{kind}.tif") as file:
                dn = file.read([3, 2, 1, 4]) / np.float32(255)
                write(tmp_path / f"{name}_{kind}.tif", dn, transform=file.transform)
        files = f"cloudy: {name}_cloudy.tif, clear: {name}_clear.tif, mask: {name}_mask.tif"
        entries += [f"  - {{place: {name}, name: {name}{i}, {files}}}" for i in (1, 2)]
        write(tmp_path / f"{name}_mask.tif", np.full((1, SIZE, SIZE), 0.25, np.float32), crs=None)
    path = tmp_path / "job.yaml"
    path.write_text("bands: [blue, green, red, nir]\nplaces:\n" + "\n".join(entries) + "\n")
    with pytest.raises(UsageError, match="PNG tiles are 8 bit"):
        list(prepare(path, tmp_path / "out", OPTIONS))
    list(prepare(path, tmp_path / "out", PrepareOptions(tile=TILE, stretch=(0, 1))))
    pairs = read_pairs(tmp_path / "out")
    assert {len({p.part for p in pairs if p.stem[0] == place}) for place in "ab"} == {1}
    with (tmp_path / "out" / "pairs.csv").open() as file:
        assert {float(row["coverage"]) for row in csv.DictReader(file)} == {0.25}
    with rasterio.open(scenes / "a_clear.tif") as file:
        tile = next(p for p in pairs if p.stem == "a1_0_0").read_clear()
        np.testing.assert_array_equal(tile, file.read()[:, :TILE, 2 : 2 + TILE])
    list(prepare(path, tmp_path / "out", PrepareOptions(tile=TILE, stretch=(0, 1), format="tif")))
    assert not (tmp_path / "out" / "nir" / "benchmark").exists()
    assert read_pairs(tmp_path / "out")[0].read_clear().dtype == np.float32


def test_spacenet6_with_panchromatic_bands(tmp_path, data_dir):
    """Real scenes: the cloudy one is the clear one under a cloud, said to lie 1.15 m east and 0.6 m south."""
    kinds = {"": "spacenet6_ms_1m.tif", "_pan": "spacenet6_pan_0.5m.tif"}
    found = {kind: data_dir / "scenes" / name for kind, name in kinds.items()}
    if not all(path.is_file() for path in found.values()):
        pytest.skip(f"{' and '.join(kinds.values())} are not in {data_dir / 'scenes'}")
    row = {"place": "rotterdam", "mask": str(tmp_path / "mask.tif")}
    for kind, path in found.items():
        with rasterio.open(path) as file:
            dn, t, crs = file.read(), file.transform, file.crs
        dn[:, len(dn[0]) // 2 :] = dn[:, len(dn[0]) // 2 :] // 2 + 500  # the lower half
        moved = Affine(t.a, 0, t.c + 1.15, 0, t.e, t.f - 0.6)
        row |= {f"cloudy{kind}": str(write(tmp_path / f"c{kind}.tif", dn, crs=crs, transform=moved))}
        row |= {f"clear{kind}": str(path)}
        if not kind:
            mask = np.zeros((1, *dn.shape[1:]), np.uint8)
            mask[:, mask.shape[1] // 2 :] = 1
            write(tmp_path / "mask.tif", mask, crs=crs, transform=moved)
    path = tmp_path / "job.csv"
    path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    (done,) = prepare(path, tmp_path / "out", PrepareOptions(stretch=(0, 1000), test_share=0))
    assert (done.record["match"]["rows"], done.record["match"]["cols"]) == pytest.approx((1.2, 2.3), abs=0.1)
    (pair,) = read_pairs(tmp_path / "out")
    assert pair.read_cloudy().shape == (4, 512, 512)
    assert done.record["kept"][0]["coverage"] == pytest.approx((512 - 300) / 512, abs=2 / 512)
