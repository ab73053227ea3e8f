"""A picture's bytes in, boxes out: numpy, Pillow and ONNX Runtime alone."""
