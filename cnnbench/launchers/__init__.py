"""Where the runs of a sweep are made: here one after another, here several at once, on a cluster.

Whatever the launcher, a run is made by `cnnbench launch` in a process of its own (`workers`), so that what
kills it ends one run only, and `supervise` decides what is next.
"""
