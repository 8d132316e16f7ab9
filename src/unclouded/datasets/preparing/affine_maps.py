"""The two changes of a grid's transform that are needed here, the same under every version of `affine`."""

from affine import Affine


def shifted(transform: Affine, rows: float, cols: float) -> Affine:
    """The transform of pixels counted from (rows, cols)."""
    t = transform
    return Affine(t.a, t.b, t.c + t.a * cols + t.b * rows, t.d, t.e, t.f + t.d * cols + t.e * rows)


def scaled(transform: Affine, x: float, y: float) -> Affine:
    """The transform of pixels x times as wide and y times as high, from the same corner."""
    t = transform
    return Affine(t.a * x, t.b * y, t.c, t.d * x, t.e * y, t.f)
