"""SQLAlchemy 1.4 on psycopg2: Core and ORM, insertmanyvalues, savepoints, reflection, a pool, server-side cursors."""
import datetime
import decimal
import os

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql as pg

from common import Printer, rows_text, statements

out = Printer()
URL = sa.engine.URL.create("postgresql+psycopg2", username=os.environ["PGUSER"], host=os.environ["PGHOST"], port=int(os.environ["PGPORT"]),
                           database=os.environ["PGDATABASE"])
Base = orm.declarative_base()


class Item(Base):
    __tablename__ = "item"
    id = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    name = sa.Column(sa.Text, server_default="unnamed")
    price = sa.Column(sa.Numeric(12, 3))
    made = sa.Column(sa.DateTime(timezone=True))
    doc = sa.Column(pg.JSONB)
    raw = sa.Column(sa.LargeBinary)
    tags = sa.Column(pg.ARRAY(sa.Text))
    good = sa.Column(sa.Boolean, server_default="true")


class Parent(Base):
    __tablename__ = "parent"
    id = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    v = sa.Column(sa.Text)
    children = orm.relationship("Child", order_by="Child.id", cascade="all, delete-orphan", passive_deletes=True)


class Child(Base):
    __tablename__ = "child"
    id = sa.Column(sa.Integer, primary_key=True, autoincrement=False)
    parent_id = sa.Column(sa.ForeignKey("parent.id", ondelete="CASCADE"), nullable=False)
    v = sa.Column(sa.Text)


class Made(Base):
    __tablename__ = "made"
    id = sa.Column(sa.Integer, sa.Identity(), primary_key=True)
    v = sa.Column(sa.Text)


def check(name, work):
    out.check(name, work, (sa.exc.SQLAlchemyError,), lambda error: f"{getattr(error.orig, 'pgcode', '') if hasattr(error, 'orig') else ''} {str(error).splitlines()[0]}")


def run(engine, text, **parameters):
    with engine.begin() as connection:
        result = connection.execute(sa.text(text.replace(":", "\\:") if not parameters else text), parameters)
        return f"{result.rowcount} {rows_text(result.fetchall()) if result.returns_rows else ''}"


def common(engine):
    automatic = engine.execution_options(isolation_level="AUTOCOMMIT")
    for name, text in statements():
        check(name, lambda text=text: run(automatic, text))


def core(engine):
    table = Item.__table__
    with engine.begin() as connection:
        check("insert", lambda: connection.execute(table.insert().returning(table.c.id, table.c.name, table.c.good),
                                                   {"id": 300, "price": decimal.Decimal("1.5"), "doc": {"a": [1, None]}, "tags": ["x", None], "raw": b"\0\xff"}).fetchall())
        check("many", lambda: connection.execute(table.insert(), [{"id": n, "name": f"many {n}"} for n in range(400, 600)]).rowcount)
        check("upsert", lambda: connection.execute(pg.insert(table).values(id=300, name="upsert").on_conflict_do_update(
            index_elements=[table.c.id], set_={"name": "upserted"}).returning(table.c.name)).scalar())
        check("update", lambda: connection.execute(table.update().where(table.c.id < 403).where(table.c.id >= 400).values(price=table.c.id * 2)).rowcount)
        check("select", lambda: connection.execute(sa.select(table.c.id, table.c.price, table.c.doc["a"].label("a")).where(table.c.id.in_([300, 400])).order_by(table.c.id)).fetchall())
    with engine.connect().execution_options(stream_results=True, max_row_buffer=10) as connection:
        check("stream", lambda: sum(row[0] for row in connection.execute(sa.text("select g from generate_series(1, 500) g"))))
    for level in ("REPEATABLE READ", "SERIALIZABLE"):
        with engine.connect().execution_options(isolation_level=level) as connection:
            check(level, lambda c=connection: c.execute(sa.text("show transaction_isolation")).scalar())
    with engine.connect() as connection:
        transaction = connection.begin_twophase("sqlalchemy two-phase")
        connection.execute(table.insert(), {"id": 700, "name": "two-phase"})
        transaction.prepare()
        transaction.commit()
    check("two-phase", lambda: run(engine, "select id, name from item where id = 700"))


def mapped(engine):
    with orm.Session(engine, future=True) as session:
        session.add_all([Parent(id=10, v="p", children=[Child(id=100 + n, v=f"c{n}") for n in range(3)]),
                         Item(id=301, name="orm", made=datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc))])
        session.commit()
        check("loaded", lambda: [(child.id, child.v) for child in session.get(Parent, 10).children])
        item = session.get(Item, 301)
        item.price, item.tags = decimal.Decimal("9.5"), ["a"]
        session.flush()
        try:
            with session.begin_nested():
                session.add(Child(id=100, parent_id=10))
                session.flush()
        except sa.exc.IntegrityError as error:
            out("nested failed", error.orig.pgcode)
        made = [Made(v="one"), Made(v="two")]
        session.add_all(made)
        session.commit()
        out("made", made[1].id - made[0].id)
        check("refreshed", lambda: (session.get(Item, 301).price, session.get(Item, 301).good, session.get(Item, 301).made))
        check("joined", lambda: session.execute(sa.select(Parent.v, sa.func.count(Child.id)).join(Child).group_by(Parent.v)).fetchall())
        session.delete(session.get(Parent, 10))
        session.commit()
        check("cascaded", lambda: session.execute(sa.select(sa.func.count()).select_from(Child).where(Child.parent_id == 10)).scalar())
        check("locked", lambda: session.execute(sa.select(Item.id).where(Item.id == 301).with_for_update()).scalar())
        session.rollback()


def schema(engine):
    check("reflected", lambda: sorted((column["name"], str(column["type"])) for column in sa.inspect(engine).get_columns("item")))
    check("keys", lambda: sa.inspect(engine).get_foreign_keys("child"))
    check("checks", lambda: sa.inspect(engine).get_check_constraints("item"))
    metadata = sa.MetaData()
    table = sa.Table("built", metadata, sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
                     sa.Column("mood", sa.Enum("sad", "happy", name="mood")), sa.Column("n", sa.Numeric(10, 2), index=True))
    check("create", lambda: metadata.create_all(engine))
    with engine.begin() as connection:
        check("into it", lambda: connection.execute(table.insert().returning(table), [{"id": 1, "mood": "happy", "n": 1}]).fetchall())
    check("drop", lambda: metadata.drop_all(engine))


def main():
    engine = sa.create_engine(URL, pool_size=2, max_overflow=0, pool_pre_ping=True)
    for stage in range(3):
        if stage:
            out.pause()
            check("pool", lambda: run(engine, "select count(*) > 0 from item"))
        common(engine)
        core(engine)
        mapped(engine)
        schema(engine)
    engine.dispose()


main()
