"""HTTP: what comes in is validated and translated here, and nothing is decided."""
