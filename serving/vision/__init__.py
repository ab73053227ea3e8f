"""Detection from a picture's bytes to boxes, with numpy, Pillow and ONNX Runtime only."""
