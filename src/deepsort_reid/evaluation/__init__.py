"""How well the network finds people it has never seen.

In: a network, query and gallery. Out: distances (distances.py), CMC, mAP and mINP (ranking.py),
the threshold for a tracker (pairs.py counts, calibration.py judges), the files and pictures in
reports/ (report.py, plots.py).
Open first: evaluate.py.
"""
