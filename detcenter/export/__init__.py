"""A trained detector as a file for where detcenter, or Python, is not."""

from detcenter.export.onnx_detector import OnnxDetector
from detcenter.export.onnx_file import export_onnx
from detcenter.export.torch_files import export_torch, export_torchscript

__all__ = ["OnnxDetector", "export_onnx", "export_torch", "export_torchscript"]
