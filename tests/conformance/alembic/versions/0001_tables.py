"""Two tables, a type, rows."""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade():
    customer = op.create_table("customer", sa.Column("id", sa.Integer, sa.Identity(), primary_key=True), sa.Column("name", sa.String(50), nullable=False),
                               sa.Column("level", sa.Enum("low", "high", name="level"), server_default="low"))
    op.create_table("invoice", sa.Column("id", sa.Integer, primary_key=True, autoincrement=False), sa.Column("customer_id", sa.ForeignKey("customer.id", name="invoice_customer"), nullable=False),
                    sa.Column("total", sa.Numeric(10, 2), sa.CheckConstraint("total >= 0", name="invoice_total")))
    op.create_index("invoice_by_customer", "invoice", ["customer_id"])
    op.bulk_insert(customer, [{"id": n, "name": f"customer {n}"} for n in range(1, 51)])
    op.execute("insert into invoice select g, 1 + g % 50, g * 1.5 from generate_series(1, 200) g")


def downgrade():
    op.drop_table("invoice")
    op.drop_table("customer")
    op.execute("drop type level")
