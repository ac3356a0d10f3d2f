"""Palettes: those in wide use, to name the classes of masks that have no names, and our own."""

from __future__ import annotations

import numpy as np
from PIL import Image

from segacc.labels import Colour, Labels

_VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)


def _voc_colour(number: int) -> Colour:
    """The colour of a class in PASCAL VOC: the bits of its number, spread over the channels."""
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (number >> channel & 1) << 7 - place
        number >>= 3
    return channels[0], channels[1], channels[2]


def _read(table: str) -> dict[Colour, str]:
    found: dict[Colour, str] = {}
    for entry in table.split(","):
        red, green, blue, name = entry.split(maxsplit=3)
        found[int(red), int(green), int(blue)] = name.strip()
    return found


_CITYSCAPES = """128 64 128 road, 244 35 232 sidewalk, 70 70 70 building, 102 102 156 wall,
    190 153 153 fence, 153 153 153 pole, 250 170 30 traffic light, 220 220 0 traffic sign,
    107 142 35 vegetation, 152 251 152 terrain, 70 130 180 sky, 220 20 60 person, 255 0 0 rider,
    0 0 142 car, 0 0 70 truck, 0 60 100 bus, 0 80 100 train, 0 0 230 motorcycle,
    119 11 32 bicycle, 0 0 0 unlabelled"""
_CAMVID = """64 128 64 Animal, 192 0 128 Archway, 0 128 192 Bicyclist, 0 128 64 Bridge,
    128 0 0 Building, 64 0 128 Car, 64 0 192 CartLuggagePram, 192 128 64 Child,
    192 192 128 Column_Pole, 64 64 128 Fence, 128 0 192 LaneMkgsDriv, 192 0 64 LaneMkgsNonDriv,
    128 128 64 Misc_Text, 192 0 192 MotorcycleScooter, 128 64 64 OtherMoving,
    64 192 128 ParkingBlock, 64 64 0 Pedestrian, 128 64 128 Road, 128 128 192 RoadShoulder,
    0 0 192 Sidewalk, 192 128 128 SignSymbol, 128 128 128 Sky, 64 128 192 SUVPickupTruck,
    0 0 64 TrafficCone, 0 64 64 TrafficLight, 192 64 128 Train, 128 128 0 Tree,
    192 128 192 Truck_Bus, 64 0 64 Tunnel, 192 192 0 VegetationMisc, 0 0 0 Void, 64 192 0 Wall"""

PALETTES: dict[str, dict[Colour, str]] = {
    "PASCAL VOC": {_voc_colour(i): name for i, name in enumerate(_VOC)},
    "Cityscapes": _read(_CITYSCAPES),
    "CamVid": _read(_CAMVID),
}
"""The name of each colour. VOC is of Everingham et al. 2010, Cityscapes of Cordts et al. 2016,
CamVid of Brostow et al. 2009."""


def with_palette(label_map: np.ndarray, labels: Labels) -> Image.Image:
    """A label map (H, W) uint8 as a picture whose values are those of the label map, and whose
    palette has the colours of the classes, and white for values that are no class."""
    palette = [255] * 768
    for number, colour in enumerate(labels.colours):
        palette[3 * number : 3 * number + 3] = colour
    picture = Image.fromarray(label_map)
    picture.putpalette(palette)
    return picture
