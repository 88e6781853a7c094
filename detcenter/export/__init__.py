"""A trained detector as a file for where detcenter, or Python, is not."""

from detcenter.export.onnx_file import export_onnx

__all__ = ["export_onnx"]
