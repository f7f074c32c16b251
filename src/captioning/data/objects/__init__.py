"""Objects in images: the published layouts of their names, boxes and vectors, and tables of them."""
