"""Exported models, and the engines that run them without torch.

`graphs` makes ONNX graphs of a model, with torch. `folders` writes and reads the folder of an exported model, and
`cache` keeps one of each model that is run by an engine. `exported` is such a model in memory, and nothing here but
`graphs` loads torch. A further engine is one file here, and one entry in `registry`.
"""
