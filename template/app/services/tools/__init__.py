"""The tools of this service. Add a file with a function under `@tool` to add one; delete it to remove it."""
