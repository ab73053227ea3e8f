"""The stage evaluate: model.onnx measured through the server's own detector."""
