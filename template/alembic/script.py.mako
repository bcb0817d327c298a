"""${message}"""
<% code = str(upgrades or "") + str(downgrades or "") %>
% if "sa." in code:
import sqlalchemy as sa
% endif
% if "op." in code:
from alembic import op
% endif
% if imports:
${imports}
% endif

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades or "pass"}


def downgrade() -> None:
    ${downgrades or "pass"}
