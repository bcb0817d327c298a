"""Usage: what people have used, what it cost, and how much they may use."""
