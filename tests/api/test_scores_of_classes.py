"""What segacc.evaluate() returns for a model of several classes."""

import json
import math

from segacc.api.evaluate import read_scores


def test_a_class_that_an_image_lacks_has_no_iou_there(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"scores": {}, "threshold": None}))
    (tmp_path / "per_image.csv").write_text("name,iou,iou/sky,iou/road\na,0.5,,0.5\n")
    [row] = read_scores(tmp_path).per_image
    assert math.isnan(row.pop("iou/sky")) and row == {"name": "a", "iou": 0.5, "iou/road": 0.5}
