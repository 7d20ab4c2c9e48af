"""Archives from anywhere: a folder, a zip, a tar, or a URL of one.

In: a path or URL, and a checksum if it is known. Out: one verified archive in data/, read member by
member and trusted in nothing.
Open first: fetch.py.
"""
