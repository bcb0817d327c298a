"""Tests what operators see of background jobs, and do with them."""

import sqlite3
from contextlib import closing
from uuid import UUID, uuid4

from tests.integration.conftest import Project

INSERT = """
INSERT INTO background_jobs
    (id, created_at, name, arguments, queue, status, priority, turn, attempts, error, failed_at)
VALUES (?, ?, ?, '{}', 'default', ?, 0, 1, 6, 'SMTPConnectError', ?)
"""
THEN = "2026-03-01 12:30:00.000000"


def add(project: Project, name: str, status: str) -> UUID:
    id = uuid4()
    with closing(sqlite3.connect(project.folder / "app.db")) as connection:
        connection.execute(INSERT, (id.hex, THEN, name, status, THEN))
        connection.commit()
    return id


def test_jobs_are_listed_retried_and_deleted(prepared: Project) -> None:
    assert prepared.succeed("jobs", "list") == "There are no jobs.\n"
    failed = [add(prepared, "send_email", "failed") for _ in range(2)]
    add(prepared, "of_yesterday", "queued")
    said = prepared.succeed("jobs", "list").splitlines()
    assert said[:2] == ["of_yesterday: 1 queued, but no module of app/jobs/ defines it", "send_email: 2 failed"]
    assert f"{failed[0]} send_email: SMTPConnectError (attempt 6, 2026-03-01 12:30 UTC)" in said
    unknown = uuid4()
    assert f"No job {unknown} failed, so none was put back" in prepared.fail(
        "jobs", "retry", str(failed[0]), str(unknown)
    )
    assert prepared.succeed("jobs", "retry", str(failed[0])) == "Put 1 job back into the queue.\n"
    assert "send_email: 1 failed, 1 queued" in prepared.succeed("jobs", "list")
    assert prepared.succeed("jobs", "retry") == "Put 1 job back into the queue.\n"
    assert prepared.succeed("jobs", "delete", "of_yesterday") == "Deleted 1 job.\n"
    assert prepared.succeed("jobs", "list") == "send_email: 2 queued\n"


def test_the_doctor_tells_of_failed_jobs_and_of_nobody_who_runs_them(prepared: Project) -> None:
    add(prepared, "send_email", "failed")
    done = prepared.run("doctor", WORKER_IN_SERVER="false")
    assert done.returncode == 1
    assert "Background jobs failed: 1; " in done.stdout
    assert "No process runs background jobs, such as e-mails: start " in done.stdout
