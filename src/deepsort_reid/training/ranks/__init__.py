"""The processes that train together, on one machine or several.

How they meet, form a group, make sure that they train the same, and notice that one is gone.
`distributed` has every collective that the rest of the room uses.
"""
