"""Writes e-mails to people, and delivers them."""
