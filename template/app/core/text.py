def storable(text: str) -> str:
    """Without what no database stores: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode(errors="replace").decode()
