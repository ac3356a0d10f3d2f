"""Polygons: COCO, YOLO and labelme files become shapes, and shapes become label maps."""
