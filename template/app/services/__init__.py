"""The rules. Each public method is one transaction."""
