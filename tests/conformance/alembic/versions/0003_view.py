"""Plain SQL: a function, a trigger, a view, a column of a changed type."""
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade():
    op.execute("create function stamp() returns trigger language plpgsql as $$ begin new.total := round(new.total, 1); return new; end $$")
    op.execute("create trigger stamp before insert or update on invoice for each row execute function stamp()")
    op.execute("create view owed as select c.title, sum(i.total) as total from invoice i join customer c on c.id = i.customer_id group by c.title")
    op.execute("alter table invoice add column paid boolean not null default false, add column note text")
    op.execute("update invoice set note = 'paid ' || total, paid = true where id % 3 = 0")


def downgrade():
    op.execute("alter table invoice drop column note, drop column paid")
    op.execute("drop view owed; drop trigger stamp on invoice; drop function stamp()")
