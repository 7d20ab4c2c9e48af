"""Footage of today beside that of training: whether the network still sees what it has learned.

In: a checkpoint, the split's held-out people, and crops of new people: a folder, an archive, or a
video with tracks. Out: whether the two differ by more than chance, by how much, and what changed.
Open first: watch.py. footage.py reads both sides, pieces.py finds broken tracks, two_sample.py
compares the sides, appearance.py measures what a person would see, report.py says it.
"""
