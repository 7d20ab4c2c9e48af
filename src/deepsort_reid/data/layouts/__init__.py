"""The layouts of datasets: how to tell identities, cameras and roles from an archive's files.

In: an archive. Out: samples (data/samples.py), and a line that says what was understood. One file a
layout, whose name is the choice of dataset.layout, in one of three folders: general/ (folders,
tables: your own data), published/ (a file for each dataset that the field uses) and video/
(annotated videos). A new layout is a file there and a line in registry.py's table.
reading.py refuses every file that a layout does not explain. lists.py and parts.py are what readers
of published datasets share: list files, and folders that stand for parts. Formats in video/ give
sequences, which stage track reads by videos.py; crops.py cuts images out of them.
Open first: registry.py, then general/folders.py as the shortest example.
"""
