"""Scenes: a data set that this project draws itself. `dataset` writes it, `facts` says what is in each image,
`truth` how much of a caption is true of it.
"""
