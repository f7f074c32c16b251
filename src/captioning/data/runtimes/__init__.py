"""What runs networks without torch: ONNX Runtime and OpenVINO, behind one interface.

`registry` knows them by name, and loads the one that is asked for. `tracing` makes their graphs, with torch. A further
engine is one file here, and one entry in `registry`.
"""
