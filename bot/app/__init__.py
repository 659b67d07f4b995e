"""The composition root: the one place where strangers meet."""
