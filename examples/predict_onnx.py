"""Predict an image with a file of `segacc export --to onnx`, without segacc and without torch.

pip install onnxruntime numpy pillow
python predict_onnx.py MODEL.onnx IMAGE MASK.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, image_file, mask_file = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["segacc"])

image = ImageOps.exif_transpose(Image.open(image_file)).convert("RGB")
seen = image
if about["size"] and not about["at"]:  # with --at the file resizes itself
    seen = image.resize(about["size"], Image.Resampling.BICUBIC)
pixels = np.asarray(seen).transpose(2, 0, 1)[None]  # (1, 3, H, W), RGB in 0..255
if session.get_inputs()[0].type == "tensor(float)":
    pixels = pixels.astype(np.float32)

(probabilities,) = session.run(["probabilities"], {"images": pixels})
maps = [
    Image.fromarray(of_class).resize(image.size, Image.Resampling.BILINEAR)
    for of_class in probabilities[0]
]
if about["threshold"] is None:
    mask = np.argmax(maps, axis=0)  # the number of the class, of about["classes"]
else:
    mask = 255 * (np.asarray(maps[0]) > about["threshold"])
Image.fromarray(mask.astype(np.uint8)).save(mask_file)
