"""start of this project's own migrations"""

revision = "project_0001"
down_revision = None
branch_labels = ("project",)
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
