"""Networks of any origin side by side: on the same images, in the same tracker, by the same clock.

In: files of networks, whoever made them, and a split and sequences of this project. Out: for each
network mAP, threshold, speed and scores in the tracker; a table, a picture, and an answer to
"is mine better than the one I have?".
Open first: opening.py, which tells what a file is; measuring.py then measures, verdict.py answers,
and report.py with picture.py writes it down.
"""
