"""What changes a table that has rows."""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade():
    op.add_column("customer", sa.Column("email", sa.Text, nullable=True))
    op.execute("update customer set email = 'c' || id || '@example.org'")
    op.alter_column("customer", "email", nullable=False)
    op.alter_column("customer", "name", type_=sa.Text, new_column_name="title")
    op.create_unique_constraint("customer_email", "customer", ["email"])
    op.create_table_comment("customer", "who pays")
    with op.get_context().autocommit_block():
        op.execute("alter type level add value 'middle'")
        op.create_index("customer_title", "customer", ["title"], postgresql_concurrently=True)


def downgrade():
    op.drop_index("customer_title", "customer")
    op.drop_table_comment("customer")
    op.drop_constraint("customer_email", "customer")
    op.alter_column("customer", "title", type_=sa.String(50), new_column_name="name")
    op.drop_column("customer", "email")
