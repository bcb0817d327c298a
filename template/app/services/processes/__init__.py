"""Tracks which processes are alive, cleans up in each of them, and runs in pools of processes what may crash."""
