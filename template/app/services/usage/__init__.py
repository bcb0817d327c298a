"""Tracks what people have used and what it cost, and limits how much they may use."""
