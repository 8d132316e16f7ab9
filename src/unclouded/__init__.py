"""Take the clouds out of optical satellite images by diffusion enhancement.

>>> import unclouded
>>> model = unclouded.load("base")                      # a shipped model, a model file, or hf://OWNER/NAME
>>> clear = model(cloudy)                               # array or tensor of any size
>>> unclouded.restore_scene("cloudy.tif", "clear.tif")  # a whole scene, on the same grid

Importing this package does not import torch; the names below are resolved when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unclouded.restore import Restorer, load
    from unclouded.whole_scene import restore_scene

from unclouded.errors import UncloudedError

__version__ = "0.1.0"
__all__ = ["Restorer", "UncloudedError", "__version__", "load", "restore_scene"]

# No module of the package may have one of these names: importing it would put it in the name's place.
_LAZY = {
    "Restorer": "unclouded.restore",
    "load": "unclouded.restore",
    "restore_scene": "unclouded.whole_scene",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'unclouded' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
