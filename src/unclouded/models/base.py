"""What every restoration model offers, whatever is inside: the interface of restore.py, training and evaluation."""

from typing import Any, ClassVar, Protocol

from pydantic import BaseModel
from torch import Tensor

from unclouded.diffusion.denoisers import AS_PUBLISHED, Denoiser, Weighing
from unclouded.diffusion.schedule import Schedule


class RestorationModel(Protocol):
    """A network (or several) that restores y, a cloudy batch [B, C, H, W] in [0, 1].

    Models with a `schedule` are sampled: `denoiser` is what a sampler steps along. Models without one (`schedule is
    None`) are end-to-end networks: their answer is `reference`.
    """

    Config: ClassVar[type[BaseModel]]
    config: Any
    bands: int  # C
    frames: int  # cloudy frames of these bands that y holds, one after another; their order does not matter
    sar: int  # bands of Sentinel-1 that y holds after them (models/conditions.py)
    multiple: int  # H and W of what `denoiser` sees must be multiples of this

    @property
    def schedule(self) -> Schedule | None: ...

    def reference(self, y: Tensor) -> Tensor | None:
        """x_E = E(y) (eq. 10) in [0, 1], any H×W; None if the model has no reference prior."""
        ...

    def denoiser(self, y: Tensor, x_E: Tensor | None, weighing: Weighing = AS_PUBLISHED) -> Denoiser:
        """The denoiser of y given its reference x_E, both in model range [-1, 1]."""
        ...

    # What torch.nn.Module gives:
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True) -> Any: ...
    def parameters(self) -> Any: ...
    def children(self) -> Any: ...
    def to(self, *args: Any, **kwargs: Any) -> Any: ...
    def eval(self) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...
