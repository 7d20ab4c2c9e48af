"""The layouts of datasets: how to tell identities, cameras and roles from an archive's files.

In: an archive. Out: samples (data/samples.py). One file a layout, listed in registry.py.
A new layout is a file here and a line in registry.py's table. The file's name is the choice of
dataset.layout.
Open first: registry.py, then folders.py as the shortest example.
"""
