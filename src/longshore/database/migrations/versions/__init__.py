"""One file a revision, named after what it brings; written by hand, tested on both databases."""
