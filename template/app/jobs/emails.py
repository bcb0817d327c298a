"""Sends e-mails."""

from app.core.jobs import JobContext, job
from app.services.email.messages import EmailRequest


@job()
async def send_email(context: JobContext, request: EmailRequest) -> None:
    """Writes and sends one e-mail. Its token is a new one in each attempt, and only the newest counts."""
    await context.state.emails.send(request, context.attempt)
