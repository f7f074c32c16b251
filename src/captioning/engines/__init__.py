"""Exported models, which engines run without torch.

`graphs` makes ONNX graphs of a model, with torch. `folders` writes and reads the folder of an exported model, and
`cache` keeps one of each model that is run by an engine. `exported` is such a model in memory, and nothing here but
`graphs` loads torch. The engines are in `data.runtimes`.
"""
