"""The rendered world: people, streets and cameras, so that everything runs without data.

In: a seed and a few counts. Out: a zip archive of crops in Market-1501's layout (dataset.py), or of
annotated videos in MOTChallenge's (sequences.py), the same bytes on every machine.
Open first: dataset.py.
"""
