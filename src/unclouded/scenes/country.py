"""What landscapes are made of: colours of the ground in four bands, and styles of country."""

from dataclasses import dataclass

import numpy as np

# Display-like reflectance in red, green, blue, near infrared.
FOREST = (0.135, 0.215, 0.125, 0.50)
MEADOW = (0.330, 0.400, 0.215, 0.66)
SCRUB = (0.460, 0.425, 0.290, 0.52)
ROCK = (0.520, 0.480, 0.430, 0.50)
SAND = (0.740, 0.660, 0.520, 0.68)
DEEP = (0.075, 0.135, 0.175, 0.03)
SHALLOW = (0.200, 0.275, 0.250, 0.08)
ASPHALT = (0.440, 0.440, 0.445, 0.38)
TRACK = (0.640, 0.570, 0.450, 0.58)
YARD = (0.500, 0.475, 0.430, 0.45)
CROPS = (  # red, green, blue, nir: maize, beet, young cereal, ripe wheat, stubble, hay, bare, ploughed, rape
    (0.245, 0.325, 0.185, 0.70),
    (0.230, 0.350, 0.190, 0.78),
    (0.330, 0.450, 0.215, 0.74),
    (0.680, 0.590, 0.380, 0.62),
    (0.620, 0.560, 0.425, 0.56),
    (0.470, 0.480, 0.270, 0.62),
    (0.560, 0.440, 0.325, 0.52),
    (0.395, 0.310, 0.235, 0.38),
    (0.600, 0.580, 0.260, 0.72),
)
ROOFS = (
    (0.600, 0.350, 0.255, 0.46),
    (0.520, 0.300, 0.230, 0.42),
    (0.480, 0.475, 0.485, 0.42),
    (0.340, 0.335, 0.350, 0.30),
    (0.840, 0.830, 0.810, 0.78),
)


@dataclass(frozen=True)
class Style:
    """What kind of country it is; each value in [0, 1] unless said otherwise."""

    relief: float = 0.4  # flat .. mountains
    farmland: float = 0.75  # share of open land that is tilled
    woods: float = 0.3  # share of the land under trees
    towns: float = 0.25
    dryness: float = 0.2  # lush .. arid
    river: float = 35.0  # width in metres, 0: none
    lakes: float = 0.3
    parcel: float = 1.0  # size of fields relative to central Europe's

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Style":
        """A random kind of country."""
        wild = rng.random() < 0.3
        return cls(
            relief=float(rng.random()),
            farmland=float(rng.random() * 0.2 if wild else rng.uniform(0.5, 1.0)),
            woods=float(rng.beta(1.2, 2.0)),
            towns=float(rng.random() * (0.1 if wild else 0.6)),
            dryness=float(rng.beta(1.0, 1.5)),
            river=float(rng.choice([0.0, rng.uniform(8, 40), rng.uniform(40, 200)])),
            lakes=float(rng.random() ** 2),
            parcel=float(np.exp(rng.uniform(-0.7, 1.0))),
        )
