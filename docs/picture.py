"""Makes docs/demo.jpg from a run on the demo set: python docs/picture.py runs/demo-..."""

import csv
import sys
from pathlib import Path

from PIL import Image

from segacc.report.pictures import overview, picture_name

WIDTH = 900

test = Path(sys.argv[1]) / "test"
with (test / "per_image.csv").open(encoding="utf-8") as file:
    rows = sorted(csv.DictReader(file), key=lambda row: float(row["iou"]))
chosen = [rows[0], rows[len(rows) // 2], rows[-1]]
sheet = overview([test / "overlays" / picture_name(row["name"]) for row in chosen])
size = (WIDTH, round(sheet.height * WIDTH / sheet.width))
sheet.resize(size, Image.Resampling.LANCZOS).save(Path(__file__).with_name("demo.jpg"), quality=85)
