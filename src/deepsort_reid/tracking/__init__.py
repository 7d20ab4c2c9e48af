"""The network in a tracker: what it is worth on videos.

In: sequences with detections, a network. Out: tracks, HOTA, IDF1 and switches beside two
alternatives, and a video of both; or a video file, tracked and drawn.
Open first: compare.py; for a video file live.py, with detectors.py. The tracker stands in
deep_sort.py; for another one write a module with the same functions and import it in compare.py.
The reports are written by report.py, which also says where the scores mean nothing or the network
does harm.
"""
