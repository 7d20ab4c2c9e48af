"""The network in a tracker: what it is worth on videos.

In: sequences with detections, a network. Out: tracks, HOTA, IDF1 and switches beside two
alternatives, and a video of both.
Open first: compare.py. The tracker stands in deep_sort.py.
"""
