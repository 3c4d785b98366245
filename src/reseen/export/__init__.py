"""Models on their way out: ONNX graphs, a folder for a model hub, FiftyOne's samples."""
