"""Speaks languages that clients already have, at the paths that they know: each `router` is mounted at the root.

A module may say with `error_formats` how errors are told below a path, where its clients want no problem document.
"""
