"""One file a revision, named after what it brings; written by hand, tested on both databases.

Each says ``oldest``: of which revision a longshore must be, at least, to use the database from then
on. Where that is its predecessor's, the revision *expands*: who runs goes on running. Where it is
later, it *contracts*: it waits until nobody older is there.
"""
