"""Runs the jobs of `app/jobs/` in the background. To add one to the queue, call `JobRepository.enqueue`."""
