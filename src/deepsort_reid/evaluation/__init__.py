"""How well the network finds people it has never seen.

In: a network, query and gallery. Out: CMC, mAP and mINP (ranking.py), the threshold for a tracker
(calibration.py), the files and pictures in reports/ (report.py, plots.py).
Open first: evaluate.py.
"""
