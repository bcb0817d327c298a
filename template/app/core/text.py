def storable(text: str) -> str:
    """Removes NUL and replaces halves of surrogate pairs, neither of which every database stores."""
    return text.replace("\0", "").encode(errors="replace").decode()
