"""Tracks which processes are alive, deletes what has expired, and runs in pools of processes what may crash."""
