"""How well a restoration could score that keeps clear pixels exactly and knows the ground under clouds up to a blur.

    python benchmarks/oracle.py runs/held_out/half_metre [--sigmas 2 4 8 16 32]

The clear image itself, blurred by a Gaussian of so many pixels, stands in for what a model guesses under the clouds.
Mean PSNR over the pairs (protocol `paper`, an exact image counting as 60 dB) and the gain over the cloudy input.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from unclouded.datasets.pairs import read_pairs
from unclouded.evaluation.evaluate import CLOUD_THRESHOLD
from unclouded.evaluation.metrics import psnr_uint8

MOST = 60.0  # dB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="a folder of uint8 pairs")
    parser.add_argument("--split")
    parser.add_argument("--sigmas", nargs="+", type=float, default=[2, 4, 8, 16, 32])
    options = parser.parse_args()
    pairs = [(pair.read_cloudy(), pair.read_clear()) for pair in read_pairs(options.pairs, options.split)]
    before = np.mean([psnr_uint8(cloudy, clear) for cloudy, clear in pairs])
    print(f"{len(pairs)} pairs, cloudy input: {before:.2f} dB")
    for sigma in options.sigmas:
        after = np.mean([min(psnr_uint8(oracle(*pair, sigma), pair[1]), MOST) for pair in pairs])
        print(f"ground known up to a blur of {sigma:g} pixels: {after:.2f} dB, {after - before:+.2f}")


def oracle(cloudy: np.ndarray, clear: np.ndarray, sigma: float) -> np.ndarray:
    """`clear` [C, H, W] with its cloudy pixels blurred."""
    under = (np.abs(cloudy.astype(float) - clear) > 255 * CLOUD_THRESHOLD).any(axis=0)
    blurred = gaussian_filter(clear.astype(float), (0, sigma, sigma), mode="reflect")
    return np.where(under, np.rint(blurred), clear).astype(np.uint8)


if __name__ == "__main__":
    main()
