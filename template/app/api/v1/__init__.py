"""Defines version 1 of the API: `router.py` mounts the `router` of every module beside it."""
