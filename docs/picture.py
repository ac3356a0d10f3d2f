"""Makes docs/demo.jpg from a run on the demo set: python docs/picture.py runs/demo-..."""

import csv
import sys
from pathlib import Path

from PIL import Image

from segacc.report.pictures import find_pictures, overview

WIDTH = 900

test = Path(sys.argv[1]) / "test"
with (test / "per_image.csv").open(encoding="utf-8") as file:
    rows = sorted(csv.DictReader(file), key=lambda row: float(row["iou"]))
pictures = find_pictures(test / "overlays", [row["name"] for row in rows])
sheet = overview([pictures[0], pictures[len(pictures) // 2], pictures[-1]])
size = (WIDTH, round(sheet.height * WIDTH / sheet.width))
sheet.resize(size, Image.Resampling.LANCZOS).save(Path(__file__).with_name("demo.jpg"), quality=85)
