"""Sends spans, metrics and errors of this process to those who monitor it, where settings say so."""
