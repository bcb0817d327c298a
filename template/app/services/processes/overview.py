from app.core.database import Database
from app.core.jobs import jobs
from app.repositories.job import JobRepository
from app.repositories.process import ProcessRepository
from app.schemas.process import FailedJob, JobCounts, ProcessOverview, ProcessRead

MAX_FAILED = 100


async def read_processes(database: Database) -> ProcessOverview:
    """Shows the processes of the application, and its background jobs."""
    async with database.read() as session:
        processes = await ProcessRepository(session).list()
        repository = JobRepository(session)
        counts, failed = await repository.count_by_name(), await repository.list_failed(MAX_FAILED)
    return ProcessOverview(
        processes=[ProcessRead.model_validate(row) for row in processes],
        jobs=[JobCounts(name=name, is_known=name in jobs, counts=counts[name]) for name in sorted(counts)],
        failed_jobs=[FailedJob.model_validate(job) for job in failed],
    )
