"""Where Alembic's commands begin: the database is named by libpq's environment variables."""
import os

import sqlalchemy as sa
from alembic import context

url = sa.engine.URL.create("postgresql+psycopg2", username=os.environ["PGUSER"], host=os.environ["PGHOST"], port=int(os.environ["PGPORT"]),
                           database=os.environ["PGDATABASE"])
engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=None, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
