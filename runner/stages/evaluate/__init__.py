"""Stage evaluate: measure model.onnx with the server's own detector."""
