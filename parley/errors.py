class ParleyError(Exception):
    """Ends a command with exit status 1 and one sentence for the person who can act."""
