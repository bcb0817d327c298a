class ParleyError(Exception):
    """Why a command ends with exit status 1: one sentence for the person who can act."""
