"""Defines version 1 of the API: `app/api/routers.py` mounts the `router` of every module here."""
