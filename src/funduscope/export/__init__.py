"""ONNX export: the files that a finished run is used from, accepted after their parity is measured."""
