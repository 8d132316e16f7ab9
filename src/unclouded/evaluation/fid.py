"""Fréchet inception distance (Heusel et al. 2017) between two sets of images, over features of the user's network."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UsageError

Array = NDArray[Any]
Features = Callable[[Array], Array]  # [C, H, W] in [0, 1] -> one vector


class FeatureStatistics:
    """Mean and covariance of feature vectors, fed one image after the other."""

    def __init__(self) -> None:
        self.vectors: list[Array] = []

    def feed(self, vector: Array) -> None:
        self.vectors.append(np.asarray(vector, dtype=np.float64).reshape(-1))

    def mean_and_covariance(self) -> tuple[Array, Array]:
        if len(self.vectors) < 2:
            raise UsageError(f"FID compares distributions and was given {len(self.vectors)} images. Give at least two.")
        vectors = np.stack(self.vectors)
        return vectors.mean(axis=0), np.atleast_2d(np.cov(vectors, rowvar=False))


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) (Heusel et al. 2017, eq. 6).

    The trace of the root is the sum of the roots of the eigenvalues of Σ_a Σ_b, which are real and not negative. With
    fewer images than features the value is biased upwards: compare only equal numbers of images.
    """
    (mu_a, cov_a), (mu_b, cov_b) = a.mean_and_covariance(), b.mean_and_covariance()
    eigenvalues = np.linalg.eigvals(cov_a @ cov_b).real
    root_trace = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    return float(((mu_a - mu_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * root_trace)
