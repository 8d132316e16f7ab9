"""How the public data sets lie on disk: one reader per layout, from a root folder to pairs. Files are not opened
here."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import rasterio
import rasterio.errors

from unclouded.datasets.images import unreadable
from unclouded.datasets.matching import list_images, match_folders, natural
from unclouded.datasets.pair import Pair
from unclouded.errors import UncloudedError, UsageError
from unclouded.text_files import read_text

Layout = Callable[[Path], list[Pair]]

# SEN12MS-CR: Ebel et al. 2021; the test regions are the published ones, the validation regions those in common use
_SEN12 = re.compile(r"(?P<season>ROIs\d+_[a-z]+)_(?P<kind>s1|s2_cloudy|s2)_(?P<roi>\d+)_p(?P<patch>\d+)")
_SEN12_PARTS = {
    "test": {"ROIs1158": (31, 44, 106, 123, 140), "ROIs1868": (73, 119), "ROIs1970": (139,), "ROIs2017": (63, 108)},
    "val": {"ROIs1158": (17,), "ROIs1868": (17, 19, 80, 127), "ROIs1970": (65,), "ROIs2017": (22, 84, 107, 130)},
}
_SEN12TS = re.compile(
    r"s(?P<sensor>[12])_(?P<season>ROIs\d+)_(?P<roi>\d+)_ImgNo_(?P<number>\d+)_(?P<date>[\d-]+)_patch_(?P<patch>\d+)"
)
_SEN12TS_PARTS = {
    "test": {
        "ROIs1158": (106,),
        "ROIs1868": (73, 100, 119, 142),
        "ROIs1970": (20, 132, 139),
        "ROIs2017": (32, 63, 103, 108, 140),
    },
    "val": {"ROIs1868": (17, 127), "ROIs1970": (65,), "ROIs2017": (22, 117)},
}


def below(root: Path, *names: str) -> Path:
    """`root`, or the first of its sub-folders `names` that is there: archives unpack with and without a top folder."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def need(root: Path, what: str, *folders: str) -> None:
    """UsageError, saying what was looked for, unless all of `folders` are below `root`."""
    absent = [folder for folder in folders if not (root / folder).is_dir()]
    if absent:
        seen = ", ".join(sorted(entry.name for entry in root.iterdir())[:8]) if root.is_dir() else ""
        raise UsageError(
            f"{root} does not have the layout of {what}: {'/, '.join(absent)}/ was looked for, and there is "
            f"{seen or 'nothing'}. Give the folder that holds {'/, '.join(folders)}/."
        )


def folders(what: str, cloudy: str, clear: str, *tops: str) -> Layout:
    """`cloudy`/ and `clear`/ with equal names, directly below the root or one of `tops`."""

    def read(root: Path) -> list[Pair]:
        root = below(root, *tops)
        need(root, what, cloudy, clear)
        return match_folders(root / cloudy, root / clear)

    return read


def parts(what: str, cloudy: str, clear: str, *tops: str) -> Layout:
    """`train`/ and `test`/ (and perhaps `val`/), each with `cloudy`/ and `clear`/; stems get the part as a prefix."""

    def read(root: Path) -> list[Pair]:
        root = below(root, *tops)
        present = [part for part in ("train", "val", "test") if (root / part).is_dir()]
        need(root, what, *(present or ["train"]))
        pairs: list[Pair] = []
        for part in present:
            need(root, what, f"{part}/{cloudy}", f"{part}/{clear}")
            for pair in match_folders(root / part / cloudy, root / part / clear):
                pairs.append(Pair(f"{part}-{pair.stem}", pair.cloudy, pair.clear, part=part))
        return pairs

    return read


def cut_by_the_user(what: str, cloudy: str, clear: str) -> Layout:
    """Scenes that are cut to tiles after the download: in `parts`, or all in one as in `folders`."""

    def read(root: Path) -> list[Pair]:
        return (parts if (root / "train").is_dir() else folders)(what, cloudy, clear)(root)

    return read


def cuhk(name: str) -> Layout:
    """`name`/{train,test}/{cloud,label}/ in RGB and nir/`name`/ alike in grey; without nir/, three bands."""
    rgb = parts(name, "cloud", "label", name)

    def read(root: Path) -> list[Pair]:
        pairs = rgb(root)
        top = below(root, name)
        nir = top.parent / "nir" / name
        if not nir.is_dir():
            return pairs

        def partner(path: Path) -> tuple[Path]:
            other = nir / path.relative_to(top)
            if not other.is_file():
                raise UncloudedError(
                    f"{path} has no near infrared {other}. Complete nir/, or take it away for RGB alone."
                )
            return (other,)

        return [
            Pair(p.stem, p.cloudy, p.clear, more_cloudy=partner(p.cloudy), more_clear=partner(p.clear), part=p.part)
            for p in pairs
        ]

    return read


def whus2(root: Path) -> list[Pair]:
    """The 10 m bands (B2, B3, B4, B8) of WHUS2-CR, cut as its authors' script does, or of its successor WHUS2-CRv:
    {cloud,clear}/composite/10mclips/SCENE/N.tif, or {train,val,test}/{cloud,clear}DNclips/10m/SCENE/N.tif."""
    released = [part for part in ("train", "val", "test") if (root / part / "cloudDNclips" / "10m").is_dir()]
    pairs = []
    for part in released:
        pairs += _scenes(root / part / "cloudDNclips" / "10m", root / part / "clearDNclips" / "10m", part)
    if not released:
        need(root, "WHUS2-CR", "cloud/composite/10mclips", "clear/composite/10mclips")
        pairs = _scenes(root / "cloud" / "composite" / "10mclips", root / "clear" / "composite" / "10mclips", None)
    return pairs


def _scenes(cloudy: Path, clear: Path, part: str | None) -> list[Pair]:
    pairs = []
    for scene in sorted(folder for folder in cloudy.iterdir() if folder.is_dir()):
        need(clear, "WHUS2-CR", scene.name)
        for pair in match_folders(scene, clear / scene.name):
            stem = "-".join(filter(None, (part, scene.name, pair.stem)))
            pairs.append(Pair(stem, pair.cloudy, pair.clear, part=part))
    return pairs


def sen2_mtc_new(root: Path) -> list[Pair]:
    """TILE/cloud/NAME_{0,1,2}.tif and TILE/cloudless/NAME.tif; train.txt, val.txt and test.txt, where they lie, name
    the tiles (or images) of each part. The first frame is `cloudy`, the others are `dates`."""
    root = below(root, "Sen2_MTC")
    tiles = sorted(folder.parent for folder in root.glob("*/cloudless") if folder.is_dir())
    if not tiles:
        need(root, "Sen2_MTC_New", "TILE/cloud", "TILE/cloudless")
    part_of = _listed_parts(root)
    pairs = []
    for tile in tiles:
        for stem, clear in sorted(list_images(tile / "cloudless").items(), key=lambda item: natural(item[0])):
            frames = _frames(tile / "cloud", stem, clear.suffix)
            part = part_of.get(stem, part_of.get(tile.name))
            pairs.append(Pair(f"{tile.name}-{stem}", frames[0], clear, dates=tuple(frames[1:]), part=part))
    return pairs


def _listed_parts(root: Path) -> dict[str, str]:
    """Tile or image name -> part, from the lists that lie beside the tiles."""
    found: dict[str, str] = {}
    for part in ("train", "val", "test"):
        path = next((p for p in (root / f"{part}.txt", root.parent / f"{part}.txt") if p.is_file()), None)
        for line in read_text(path).splitlines() if path else ():
            found[Path(line.strip()).stem] = part
    return found


def _frames(folder: Path, stem: str, suffix: str) -> list[Path]:
    frames = [folder / f"{stem}_{i}{suffix}" for i in range(3)]
    absent = [frame for frame in frames if not frame.is_file()]
    if absent:
        raise UncloudedError(
            f"{absent[0]} is absent: each clear image has three cloudy frames _0, _1, _2. Complete the folder."
        )
    return frames


def sen2_mtc_old(root: Path) -> list[Pair]:
    """multipleImage/clear/NAME.jpg with cloudy/NAME_{0,1,2}.jpg. Near infrared (`_ir`) exists for the cloudy images
    alone and is not read. The set has no split: ours puts whole tiles (the name before `_`) into parts, 8:1:1 by a
    hash."""
    root = below(root, "multipleImage")
    need(root, "Sen2_MTC_Old", "clear", "cloudy")
    pairs = []
    for stem, clear in sorted(list_images(root / "clear").items(), key=lambda item: natural(item[0])):
        frames = _frames(root / "cloudy", stem, clear.suffix)
        pairs.append(Pair(stem, frames[0], clear, dates=tuple(frames[1:]), part=_part_of_place(stem.split("_")[0])))
    return pairs


def _part_of_place(place: str) -> str:
    tenth = int(hashlib.sha256(place.encode()).hexdigest(), 16) % 10
    return {8: "val", 9: "test"}.get(tenth, "train")


def sen12ms_cr(root: Path) -> list[Pair]:
    """ROIs*_{s2_cloudy,s2,s1}_ROI_pN.tif anywhere below the root, as in the archives or in flat folders. Sentinel-1
    goes into `sar` where it lies there too."""
    found: dict[tuple[str, int, int], dict[str, Path]] = defaultdict(dict)
    for path in sorted(root.rglob("ROIs*.tif")):
        match = _SEN12.fullmatch(path.stem)
        if match:
            found[match["season"], int(match["roi"]), int(match["patch"])][match["kind"]] = path
    if not found:
        raise UsageError(
            f"{root} does not have the layout of SEN12MS-CR: files such as ROIs1158_spring_s2_cloudy_1_p30.tif were "
            "looked for at any depth, and there are none. Unpack the archives below it."
        )
    pairs = []
    for (season, roi, patch), files in sorted(found.items()):
        stem = f"{season}_{roi}_p{patch}"
        for kind, other in (("s2", "s2_cloudy"), ("s2_cloudy", "s2")):
            if kind not in files and other in files:
                raise UncloudedError(
                    f"{files[other]} has no partner of kind {kind}. Complete the download, or remove it."
                )
        if "s2" in files:
            sar = (files["s1"],) if "s1" in files else ()
            part = _region_part(_SEN12_PARTS, season.split("_")[0], roi)
            pairs.append(Pair(stem, files["s2_cloudy"], files["s2"], sar=sar, part=part))
    return pairs


def _region_part(table: dict[str, dict[str, tuple[int, ...]]], season: str, roi: int) -> str:
    return next((part for part, regions in table.items() if roi in regions.get(season, ())), "train")


def sen12ms_cr_ts(root: Path) -> list[Pair]:
    """s2_ROIs*_ROI_ImgNo_N_DATE_patch_P.tif at any depth: up to 30 dates of a patch. The clearest date by
    `cloud_estimate` is `clear`; each other date gives a pair whose `dates` are the remaining ones in order of time."""
    series: dict[tuple[str, int, int], dict[int, Path]] = defaultdict(dict)
    radar: dict[tuple[str, int, int], dict[int, Path]] = defaultdict(dict)
    for path in sorted(root.rglob("s[12]_ROIs*_patch_*.tif")):
        match = _SEN12TS.fullmatch(path.stem)
        if match:
            place = match["season"], int(match["roi"]), int(match["patch"])
            (series if match["sensor"] == "2" else radar)[place][int(match["number"])] = path
    if not series:
        raise UsageError(
            f"{root} does not have the layout of SEN12MS-CR-TS: files such as "
            "s2_ROIs1158_106_ImgNo_0_2018-01-03_patch_0.tif were looked for at any depth, and there are none. "
            "Unpack the archives below it."
        )
    return [pair for place in sorted(series) for pair in _series_pairs(place, series[place], radar[place])]


def _series_pairs(place: tuple[str, int, int], series: dict[int, Path], radar: dict[int, Path]) -> list[Pair]:
    season, roi, patch = place
    if len(series) < 2:
        raise UncloudedError(f"{next(iter(series.values()))} is the only date of its patch. Complete the download.")
    clearest = min(series, key=lambda number: cloud_estimate(series[number]))
    cloudy = [number for number in sorted(series) if number != clearest]
    part = _region_part(_SEN12TS_PARTS, season, roi)
    return [
        Pair(
            f"{season}_{roi}_p{patch}_t{number}",
            series[number],
            series[clearest],
            dates=tuple(series[other] for other in cloudy if other != number),
            sar=(radar[number],) if number in radar else (),
            part=part,
        )
        for number in cloudy
    ]


def cloud_estimate(path: Path, blue: int = 2) -> tuple[float, float]:
    """How cloudy a Sentinel-2 patch looks: share of pixels whose blue reflectance exceeds 0.175, then mean blue."""
    try:
        with rasterio.open(path) as raster:
            reflectance = raster.read(min(blue, raster.count)) / 1e4
    except rasterio.errors.RasterioError as error:
        raise unreadable(path, error) from error
    return float((reflectance > 0.175).mean()), float(reflectance.mean())


def unique(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs in natural order of stems, each stem once."""
    seen: dict[str, Pair] = {}
    for pair in pairs:
        if pair.stem in seen:
            raise UncloudedError(f"{pair.cloudy} and {seen[pair.stem].cloudy} are the same sample. Keep one of them.")
        seen[pair.stem] = pair
    return [seen[stem] for stem in sorted(seen, key=natural)]
