"""The demonstration: generate a georeferenced scene, cover it with clouds, run `unclouded remove`, score the result.

Everything is generated, so the truth is known and nothing has to be downloaded.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from unclouded.errors import UncloudedError, UsageError
from unclouded.scene_plan import choose_model
from unclouded.scenes.country import Style
from unclouded.scenes.failures import writing
from unclouded.scenes.landscape import BANDS, landscape
from unclouded.scenes.opening import open_scene
from unclouded.scenes.simulate import Sun, simulate_clouds

SCENE_CRS = CRS.from_epsg(32632)  # UTM 32N; the corner lies in upper Bavaria
CORNER = (688_000.0, 5_322_000.0)
GSD = 3.0  # metres, as PlanetScope's four bands
SUN = Sun(azimuth=150.0, elevation=48.0)
STYLE = Style(relief=0.35, farmland=0.75, woods=0.3, towns=0.3, dryness=0.2, river=45.0, lakes=0.3)
MARKER = "demo.json"
LEAST_SIDE = 64
SEED = 3  # a veil, scattered cumulus and their shadows over farmland, hills, a river and villages

Dn = NDArray[np.uint8]


@dataclass(frozen=True)
class DemoScene:
    """A generated scene in the files' units: DN [4, H, W] of R, G, B, NIR, and where clouds or shadows lie [H, W]."""

    cloudy: Dn
    clear: Dn
    touched: NDArray[np.bool_]


@dataclass(frozen=True)
class DemoResult:
    """Where the files are, and PSNR (dB) and SSIM of the restored bands against the truth, before and after."""

    files: dict[str, Path]
    model: str
    scores: dict[str, dict[str, float]]
    seconds: dict[str, float]

    def summary(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        files = {name: str(path) for name, path in self.files.items()}
        return {"model": self.model, "files": files, "scores": self.scores, "seconds": self.seconds}


def make_scene(side: int = 1024, seed: int = SEED) -> DemoScene:
    """A landscape [4, side, side] under a thin veil and cumulus with shadows, with open ground between them."""
    rng = np.random.default_rng(seed)
    clear = np.rint(landscape(rng, side, side, gsd=GSD, style=STYLE, sun=SUN) * 255).astype(np.uint8)
    look: dict[str, Any] = {"bands": BANDS, "gsd": GSD, "sun": SUN, "brightness": 0.9}
    cumulus = simulate_clouds(clear / np.float32(255), rng, kind="shadow", coverage=0.15, height=700, **look)
    veil = simulate_clouds(cumulus.cloudy, rng, kind="thin", coverage=0.55, opacity=0.65, **look)
    touched = (cumulus.opacity > 0) | (cumulus.shadow > 0) | (veil.opacity > 0)
    return DemoScene(np.rint(veil.cloudy * 255).astype(np.uint8), clear, touched)


def run_demo(
    folder: Path, *, side: int = 1024, seed: int = SEED, model: str | None = None, options: Sequence[str] = ()
) -> DemoResult:
    """Make a scene of side x side pixels in `folder`, restore it by the command line's `remove`, and score it.

    `model` None takes the one that `remove` would; `options` go to `remove` as they are.
    Raises UncloudedError if `folder` holds files of others or cannot be written.
    """
    if side < LEAST_SIDE:
        raise UsageError(f"A demo scene of {side} pixels is too small to show anything. Use at least {LEAST_SIDE}.")
    started = time.monotonic()
    _claim(folder)
    names = {"cloudy": "cloudy.tif", "truth": "truth.tif", "clear": "clear.tif"}
    names |= {"before_after": "before_after.png", "comparison": "comparison.png", "scores": MARKER}
    files = {name: folder / file for name, file in names.items()}
    scene = make_scene(side, seed)
    _write_scene(files["cloudy"], scene.cloudy)
    _write_scene(files["truth"], scene.clear)
    generated = time.monotonic()
    if model is None:
        with open_scene(str(files["cloudy"])) as cloudy:
            model = choose_model(cloudy.info, None)
    command = [str(files["cloudy"]), str(files["clear"]), "--model", model]
    _remove([*command, "--preview", str(files["before_after"]), "--overwrite", *options])
    restored = time.monotonic()
    clear = _read_scene(files["clear"])
    scores = score(scene, clear, _restored_bands(model))
    _write_comparison(files["comparison"], scene, clear)
    seconds = {"generate": generated - started, "remove": restored - generated}
    result = DemoResult(files, model, scores, {name: round(value, 1) for name, value in seconds.items()})
    with writing(files["scores"]):
        files["scores"].write_text(json.dumps(result.summary(), indent=1) + "\n", encoding="utf-8")
    return result


def score(scene: DemoScene, restored: Dn, bands: Sequence[int]) -> dict[str, dict[str, float]]:
    """PSNR (dB) and SSIM (`paper` protocol) of the 1-based `bands`: of the whole scene and of its cloudy pixels."""
    from unclouded.evaluation.metrics import psnr_uint8, ssim_luma

    chosen = [band - 1 for band in bands]
    truth = scene.clear[chosen]
    scores = {}
    for name, image in (("before", scene.cloudy[chosen]), ("after", restored[chosen])):
        scores[name] = {"psnr": psnr_uint8(image, truth), "ssim": ssim_luma(image, truth)}
        if scene.touched.any():
            scores[name]["psnr_cloudy"] = psnr_uint8(image, truth, scene.touched)
    return {name: {key: round(value, 4) for key, value in values.items()} for name, values in scores.items()}


def _remove(arguments: list[str]) -> None:
    """Run the verb `remove` as the command line does."""
    from unclouded.cli.remove import remove

    remove.main(arguments, prog_name="unclouded remove", standalone_mode=False)


def _restored_bands(model: str) -> list[int]:
    """The scene's bands, from 1, that `remove` gives the model: those of its names, else as many in file order."""
    from unclouded.models.store import read_card, resolve

    names = read_card(resolve(model)).bands.names
    if set(names) <= set(BANDS):
        return [BANDS.index(name) + 1 for name in names]
    return list(range(1, len(names) + 1))


def _claim(folder: Path) -> None:
    """Make the folder, or take it if an earlier demo made it."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise UncloudedError(f"{folder} holds files that no demo made. Choose an empty or new folder.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()


def _write_scene(path: Path, dn: Dn) -> None:
    count, height, width = dn.shape
    grid = {"crs": SCENE_CRS, "transform": Affine(GSD, 0, CORNER[0], 0, -GSD, CORNER[1])}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "photometric": "RGB"}
    form = {"count": count, "height": height, "width": width, "dtype": "uint8"}
    with writing(path), rasterio.open(path, "w", driver="GTiff", **form, **grid, **layout) as file:
        file.write(dn)
        file.descriptions = BANDS
        file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
        file.update_tags(UNCLOUDED_DEMO="generated landscape with simulated clouds")


def _read_scene(path: Path) -> Dn:
    with rasterio.open(path) as file:
        return np.asarray(file.read(), np.uint8)


def _write_comparison(path: Path, scene: DemoScene, restored: Dn) -> None:
    """Cloudy | restored | truth in natural colours, at most 1024 pixels high."""
    gap = np.full((scene.clear.shape[1], max(scene.clear.shape[1] // 128, 1), 3), 255, np.uint8)
    panels: list[Dn] = []
    for image in (scene.cloudy, restored, scene.clear):
        panels += [np.moveaxis(image[:3], 0, -1), gap]
    picture = Image.fromarray(np.concatenate(panels[:-1], axis=1))
    with writing(path):
        picture.thumbnail((4096, 1024))
        picture.save(path, optimize=True)
