"""How light of each band meets air, cloud and shadow: broad facts of radiative transfer, enough for simulation.

Bands are named by colour (red, nir, ...), by initial (R, G, B, N) or as Sentinel-2 names them (B02, B8A).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UsageError

WAVELENGTHS = {  # band -> central wavelength in nm
    "coastal": 443.0,
    "blue": 490.0,
    "green": 560.0,
    "yellow": 605.0,
    "red": 665.0,
    "rededge": 715.0,
    "nir": 842.0,
    "watervapour": 945.0,
    "cirrus": 1375.0,
    "swir1": 1610.0,
    "swir2": 2190.0,
    "pan": 590.0,
    "gray": 590.0,
}
_ALIASES = {"r": "red", "g": "green", "b": "blue", "n": "nir", "grey": "gray", "swir": "swir1"}
_SENTINEL2 = {
    "b1": 443.0,
    "b2": 490.0,
    "b3": 560.0,
    "b4": 665.0,
    "b5": 705.0,
    "b6": 740.0,
    "b7": 783.0,
    "b8": 842.0,
    "b8a": 865.0,
    "b9": 945.0,
    "b10": 1375.0,
    "b11": 1610.0,
    "b12": 2190.0,
}
REFERENCE = 550.0  # nm; opacity is stated here


def wavelengths(bands: Sequence[str]) -> NDArray[np.float32]:
    """Central wavelengths in nm, [C]. Raises UsageError for a name that is not known."""
    found = []
    for name in bands:
        key = name.lower().replace("_", "").replace("-", "").replace(" ", "")
        key = _ALIASES.get(key, key)
        sentinel = "b" + key[1:].lstrip("0") if key.startswith("b") else key
        if key not in WAVELENGTHS and sentinel not in _SENTINEL2:
            known = ", ".join(WAVELENGTHS)
            raise UsageError(f"The band name {name!r} is unknown. Use {known}, or Sentinel-2's B01 to B12.")
        found.append(WAVELENGTHS.get(key) or _SENTINEL2[sentinel])
    return np.asarray(found, dtype=np.float32)


def haze_exponent(nm: NDArray[np.float32], angstrom: float) -> NDArray[np.float32]:
    """Optical depth relative to 550 nm by Ångström's law, (λ / 550)^-angstrom; 0 is grey cloud, 1.3 fine haze. [C]"""
    return np.asarray((nm / np.float32(REFERENCE)) ** np.float32(-angstrom), np.float32)


def cloud_reflectance(nm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reflectance of a deep cloud relative to the visible: water and ice absorb beyond 1.2 µm. [C]"""
    at = (400.0, 900.0, 1300.0, 1610.0, 2190.0)
    return np.interp(nm, at, (1.0, 0.98, 0.86, 0.74, 0.55)).astype(np.float32)


def skylight(nm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of the light on open ground that comes from the sky and remains in a shadow: most in the blue. [C]"""
    share = 0.30 * (nm / np.float32(REFERENCE)) ** np.float32(-1.3)
    return np.asarray(np.clip(share, 0.03, 0.6), np.float32)
