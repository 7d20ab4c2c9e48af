"""Where a checkpoint comes from, and whether the same would come out here and now.

In: a commit, a file, a run or a digest. Out: the others that belong to it. `python -m
deepsort_reid.lineage` is the command. From the stages' reports headline.py makes the headline and
the record, which git keeps.
Open first: __main__.py.
"""
