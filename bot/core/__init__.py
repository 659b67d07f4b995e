"""The words everyone shares; imports nothing of ours."""
