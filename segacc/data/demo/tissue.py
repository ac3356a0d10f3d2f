"""Gland-like tissue: an artificial section of colon, stained with haematoxylin and eosin.

Two arrays hold the optical density (in hundredths) of haematoxylin (nuclei, purple) and of eosin
(the rest, pink); the Beer-Lambert law turns them into RGB. The stroma has nuclei as dark as those
of the epithelium, and gaps, vessels and tears as pale as a lumen. So a gland cannot be recognised
by colour alone, only by the ring of cells around its lumen.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from segacc.data.demo.paint import closed_curve, ellipses, fill, modulate, noise, photograph

PALE = 4  # optical density (hundredths) of empty glass


@dataclass(frozen=True)
class Gland:
    """One gland: its outline (n x 2 points, x and y, in equal steps of about 2 pixels), the unit
    normals that point inwards, and the thickness of its ring of cells in pixels."""

    outline: np.ndarray
    inward: np.ndarray
    ring: float


def tissue(rng: np.random.Generator, size: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """A field of view: the image (uint8 RGB, size x size x 3) and its mask (uint8, 0 or 255, size x
    size), where 255 is gland: lumen and epithelium. A smaller size shows less tissue at the same
    scale."""
    glands = _place_glands(rng, size)
    mask = np.zeros((size, size), np.uint8)
    for gland in glands:
        fill(mask, gland.outline, 255)
    darkness = rng.uniform(105, 175)  # of nuclei, the stroma's and the epithelium's alike
    hema, eosin = _stroma(rng, mask, darkness)
    _shrink(rng, hema, eosin, mask)
    lumen = _cells_and_lumens(rng, hema, eosin, mask, glands)
    _gland_nuclei(rng, hema, eosin, glands, darkness)
    # Shed cells and debris lie in some lumens.
    spots = rng.uniform(0, size, (int(size**2 / 500 * rng.uniform(0, 1) ** 2), 2))
    spots = spots[lumen[spots[:, 1].astype(int), spots[:, 0].astype(int)]]
    _nuclei(rng, hema, spots, np.tile([1.0, 0.0], (len(spots), 1)), (5, 4), darkness, 0)
    return _stain(rng, hema, eosin), mask


def _place_glands(rng: np.random.Generator, size: int) -> list[Gland]:
    """Glands at random places where they do not touch, until they cover a random share."""
    cover = rng.uniform(0.28, 0.68) * size**2
    typical = rng.uniform(38, 84)
    stretch, rough = rng.uniform(1.0, 1.9), rng.uniform(0.05, 0.35)
    gap = rng.uniform(3, 12)
    glands: list[Gland] = []
    coarse = 4  # overlap is tested at a quarter of the resolution
    taken = np.zeros((size // coarse, size // coarse), np.uint8)
    for attempt in range(200):
        radius = typical * rng.uniform(0.7, 1.3) * 0.994**attempt
        centre = rng.uniform(-0.3 * radius, size + 0.3 * radius, 2)
        if not glands:
            centre = rng.uniform(0.3, 0.7, 2) * size
        column, row = np.clip(centre / coarse, 0, len(taken) - 1).astype(int)
        if taken[row, column]:  # most attempts end here, before anything slow
            continue
        curve = closed_curve(rng, stretch * rng.uniform(0.8, 1.4), rough)
        new = np.zeros_like(taken)
        fill(new, (curve * (radius + gap) + centre) / coarse, 1)
        if np.any(new & taken):
            continue
        taken |= new
        glands.append(_gland(curve * radius + centre, rng.uniform(0.3, 0.75) * radius))
        if np.count_nonzero(taken) * coarse**2 > cover * (1 + gap / typical) ** 2:
            break
    return glands


def _gland(curve: np.ndarray, ring: float) -> Gland:
    """The gland within `curve`, its outline resampled in equal steps."""
    steps = np.diff(curve, axis=0, append=curve[:1])
    along = np.concatenate([[0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])
    at = np.arange(0, along[-1], 2.0)
    closed = np.concatenate([curve, curve[:1]])
    outline = np.stack([np.interp(at, along, closed[:, axis]) for axis in (0, 1)], 1)
    tangent = np.roll(outline, -2, 0) - np.roll(outline, 2, 0)
    tangent /= np.hypot(tangent[:, 0], tangent[:, 1])[:, None] + 1e-9
    return Gland(outline, np.stack([-tangent[:, 1], tangent[:, 0]], 1), ring)


def _nuclei(
    rng: np.random.Generator,
    hema: np.ndarray,
    centres: np.ndarray,
    direction: np.ndarray,
    size: tuple[float, float],
    darkness: float,
    vesicular: float,
) -> None:
    """Draw nuclei of about `size` (length, width) pixels. `vesicular` (0 to 1) is how much paler
    they are inside than at their rim."""
    count = len(centres)
    halves = np.array(size) / 2 * rng.uniform(0.75, 1.25, (count, 2))
    value = darkness * rng.uniform(0.7, 1.2, count)
    inner = value * (1 - vesicular * rng.uniform(0.3, 0.8, count))
    tilted = direction + rng.normal(0, 0.25, (count, 2))
    tilted /= np.hypot(tilted[:, 0], tilted[:, 1])[:, None]
    # The inside of each is drawn right after its rim, so that a neighbour may cover both.
    rims_and_insides = np.stack([halves, halves * (0.7, 0.65)], 1).reshape(-1, 2)
    values = np.stack([value, inner], 1).ravel()
    ellipses(hema, centres.repeat(2, 0), rims_and_insides, tilted.repeat(2, 0), values)


def _stroma(
    rng: np.random.Generator, mask: np.ndarray, darkness: float
) -> tuple[np.ndarray, np.ndarray]:
    """The densities of haematoxylin and eosin (uint8, like `mask`) of the tissue around glands:
    fibres, gaps and vessels, groups of long and of round nuclei."""
    size = len(mask)
    turn = rng.uniform(0, np.pi)
    fibres = _fibres(rng, size, turn)
    eosin = modulate(np.full_like(mask, int(rng.uniform(45, 90))), fibres, rng.uniform(0.3, 0.6))
    hema = modulate(np.full_like(mask, int(rng.uniform(10, 34))), fibres, 0.5)
    gaps = np.where(fibres < rng.uniform(10, 60), 255, 0).astype(np.uint8)
    _open_vessels(rng, eosin, gaps, turn)
    glass = cv2.GaussianBlur(gaps, (0, 0), 1.0) > 128
    eosin[glass] = PALE
    hema[glass] = PALE // 2

    # Nuclei: crowded where a coarse noise is high, none in glands or gaps.
    spots = rng.uniform(0, size, (int(size**2 / rng.uniform(24, 100)), 2))
    column, row = spots.astype(int).T
    crowd = noise(rng, mask.shape, 75)[row, column] > rng.integers(50, 230, len(spots))
    spots = spots[crowd & (mask[row, column] == 0) & ~glass[row, column]]
    along = np.tile([np.cos(turn), -np.sin(turn)], (len(spots), 1))
    spindle = rng.random(len(spots)) < rng.uniform(0.1, 0.8)
    vesicular = rng.uniform(0, 0.7)
    _nuclei(rng, hema, spots[spindle], along[spindle], (15, 4.5), darkness, vesicular)
    _nuclei(rng, hema, spots[~spindle], along[~spindle], (8.5, 7.5), darkness, vesicular)
    red = spots[rng.random(len(spots)) < rng.uniform(-0.05, 0.1)] + 8.0  # blood, beside nuclei
    ellipses(eosin, red, np.full_like(red, 3.3), along[: len(red)], np.full(len(red), 150))
    return hema, eosin


def _fibres(rng: np.random.Generator, size: int, turn: float) -> np.ndarray:
    """Noise (uint8, size x size), stretched along the direction `turn` and bent at random."""
    wide = size * 3 // 2
    straight = noise(rng, (wide, wide), rng.uniform(3, 7), rng.uniform(18, 45))
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) - np.float32(size / 2)
    cos, sin, middle = np.float32(np.cos(turn)), np.float32(np.sin(turn)), np.float32(wide / 2)
    sway = noise(rng, (size, size), 70) * np.float32(rng.uniform(0.1, 0.25))
    return cv2.remap(
        straight,
        columns * cos - rows * sin + middle,
        columns * sin + rows * cos + middle + sway,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )


def _open_vessels(
    rng: np.random.Generator, eosin: np.ndarray, gaps: np.ndarray, turn: float
) -> None:
    """Add to the `gaps` (255 where glass shows) what is as pale as a lumen but is none: vessels
    with a pink wall, holes, and sometimes a tear through the section."""
    size = len(gaps)
    for _ in range(rng.poisson(5 * (size / 512) ** 2)):
        centre, radius = rng.uniform(0, size, 2), rng.uniform(8, 34)
        curve = closed_curve(rng, rng.uniform(1, 3), 0.25)
        if rng.random() < 0.5:
            wall = curve * (radius + rng.uniform(3, 9)) + centre
            fill(eosin, wall, int(rng.uniform(70, 120)))
            fill(gaps, wall, 0)
        fill(gaps, curve * radius + centre, 255)
    if rng.random() < 0.3:
        centre = rng.uniform(0, size, 2) + size / 2 * np.array([np.cos(turn), np.sin(turn)])
        fill(gaps, closed_curve(rng, 4, 0.5) * size * 0.16 + centre, 255)


def _shrink(
    rng: np.random.Generator, hema: np.ndarray, eosin: np.ndarray, mask: np.ndarray
) -> None:
    """Clefts between glands and stroma, where tissue has shrunk, wider in some images."""
    outside = cv2.distanceTransform(255 - mask, cv2.DIST_L2, 3)
    cleft = noise(rng, mask.shape, 45) * np.float32(18 / 255) - np.float32(rng.uniform(9, 20))
    shrunk = (outside > 0) & (outside < cleft)
    hema[shrunk] = PALE // 2
    eosin[shrunk] = PALE


def _cells_and_lumens(
    rng: np.random.Generator,
    hema: np.ndarray,
    eosin: np.ndarray,
    mask: np.ndarray,
    glands: list[Gland],
) -> np.ndarray:
    """Draw columnar cells around lumens; returns where the lumens are (bool, like `mask`)."""
    inside = mask > 0
    # Every pixel of a gland takes the value of the nearest point outside: streaks across the
    # ring, which are the columnar cells.
    depth, nearest = cv2.distanceTransformWithLabels(
        mask, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    streaks = cv2.blur(rng.integers(0, 256, int(nearest.max()) + 1, np.uint8)[nearest], (2, 2))
    for canvas, density in ((eosin, rng.uniform(40, 85)), (hema, rng.uniform(14, 40))):
        cells = modulate(np.full_like(mask, int(density)), streaks, 0.5)
        canvas[inside] = cells[inside]

    ring, content = np.zeros_like(mask), np.full_like(mask, PALE)
    secretes = rng.uniform(0, 0.5)
    for gland in glands:
        fill(ring, gland.outline, int(gland.ring))
        if rng.random() < secretes:  # pink mucus
            fill(content, gland.outline, int(rng.uniform(15, 60)))
    content = modulate(content, noise(rng, mask.shape, 9), 0.5)
    ragged = noise(rng, mask.shape, 14) * np.float32(0.6 / 255) + np.float32(0.7)
    lumen = inside & (depth > ring * ragged)
    eosin[lumen] = content[lumen]
    hema[lumen] = content[lumen] // 3
    return lumen


def _gland_nuclei(
    rng: np.random.Generator,
    hema: np.ndarray,
    eosin: np.ndarray,
    glands: list[Gland],
    darkness: float,
) -> None:
    """Draw nuclei at the outer ends of the columnar cells, in one to three rows, and in some images
    the pale round bodies of goblet cells above them."""
    goblets = rng.random() < 0.45
    rows = rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25])
    length, width = rng.uniform(9, 15), rng.uniform(5, 7)
    feet, inwards = [], []
    for gland in glands:
        if goblets:
            some = slice(int(rng.integers(0, 5)), None, int(rng.uniform(6, 10)))
            inward = gland.inward[some]
            count = len(inward)
            centres = (
                gland.outline[some] + inward * rng.uniform(0.45, 0.75, (count, 1)) * gland.ring
            )
            halves = rng.uniform(0.16, 0.3, (count, 1)) * gland.ring * (1.25, 1)
            ellipses(eosin, centres, halves, inward, rng.uniform(PALE, 22, count))
            ellipses(hema, centres, halves, inward, rng.uniform(PALE, 16, count))
        every = int(width * rng.uniform(0.4, 0.65))  # the outline has a point per 2 pixels
        for row in range(rows):
            some = slice(int(rng.integers(0, every)), None, every)
            inward = gland.inward[some]
            below = length * (0.62 + 0.75 * row) + rng.normal(0, 1.5 + 0.8 * row, (len(inward), 1))
            feet.append(gland.outline[some] + inward * np.minimum(below, gland.ring * 0.9))
            inwards.append(inward)
    keep = rng.random(sum(map(len, feet))) < 0.9
    centres, inward = np.concatenate(feet)[keep], np.concatenate(inwards)[keep]
    _nuclei(rng, hema, centres, inward, (length, width), darkness, rng.uniform(0, 0.7))


def _stain(rng: np.random.Generator, hema: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """The image (uint8 RGB) of two arrays of densities, with random colours of the stain."""
    grain, patches = noise(rng, hema.shape, 2.5), noise(rng, hema.shape, 150)
    hema = modulate(modulate(hema, grain, 0.45), patches, 0.25)
    eosin = modulate(modulate(eosin, grain, 0.25), patches[::-1], 0.3)
    density = np.arange(256) / 100
    channels = []
    for purple, pink, glass in zip(
        np.array([0.62, 0.72, 0.34]) * rng.uniform(0.85, 1.2) + rng.normal(0, 0.03, 3),
        np.array([0.13, 0.85, 0.34]) * rng.uniform(0.75, 1.2) + rng.normal(0, 0.04, 3),
        rng.uniform(236, 254, 3),
        strict=True,
    ):
        # exp(-a-b) = exp(-a) exp(-b): two tables and an integer product.
        table = [np.rint(255 * np.exp(-density * k)).astype(np.uint8) for k in (purple, pink)]
        light = cv2.multiply(cv2.LUT(hema, table[0]), cv2.LUT(eosin, table[1]), scale=1 / 255)
        channels.append(cv2.convertScaleAbs(light, alpha=glass / 255))
    return photograph(rng, cv2.merge(channels), rng.uniform(0.6, 1.1), rng.uniform(2, 7))
