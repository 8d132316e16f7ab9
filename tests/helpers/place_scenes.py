"""Scenes with a known shift and known clouds, and the job that prepares them."""

import csv

import numpy as np
from affine import Affine

from scene_files import write_tif
from unclouded.datasets.prepare import PrepareOptions
from unclouded.scenes.landscape import landscape

TILE, SIZE = 64, 256
SHIFT = (2.75, -1.5)  # rows, cols: cloudy(r + 2.75, c - 1.5) = clear(r, c)
OPTIONS = PrepareOptions(tile=TILE)


def write(path, dn, east=500_000, **options):
    place = {"crs": "EPSG:32631", "transform": Affine(2, 0, east, 0, -2, 5_000_000), "photometric": "minisblack"}
    # GDAL takes a fourth band for transparency otherwise
    return write_tif(path, dn, **place | options, alpha="unspecified")


def seen(fine, rows=0.0, cols=0.0):
    part = fine[:, round(16 - 4 * rows) :, round(16 - 4 * cols) :][:, : 4 * SIZE, : 4 * SIZE]
    return np.rint(part.reshape(4, SIZE, 4, SIZE, 4).mean((2, 4)) * 255).astype(np.uint8)


def write_places(folder):
    """Places a, b and c: scenes of 256 x 256; clouds cover columns 40 to 103 (of the clear scene) of the cloudy one."""
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


def job(folder, scenes, names="abc", **more):
    path = folder / "job.csv"
    rows = [{"place": n} | {k: str(scenes / f"{n}_{k}.tif") for k in ("cloudy", "clear", "mask")} | more for n in names]
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path
