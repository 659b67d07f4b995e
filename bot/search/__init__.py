"""Search of settings over history, and tests of how much of the result is luck."""
