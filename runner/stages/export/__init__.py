"""Stage export: model.onnx of the trained weights, whichever program trained them, compared with them."""
