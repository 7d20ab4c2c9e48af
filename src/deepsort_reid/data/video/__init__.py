"""Annotated videos: boxes and sequences, and what all formats of annotations share.

In: texts of an archive, names of frames. Out: sequences (sequence.py), whose boxes have frames from
1 and pixels from the frame's corner. The formats themselves are layouts: data/layouts/video/.
Open first: sequence.py, then annotation.py, which turns what a file says into boxes to be cut.
"""
