"""sqlalchemy-bigquery, doing what its users do; see ../README.md for the environment."""

import datetime
import decimal

import sqlalchemy as sa
from sqlalchemy import orm

from common import DATASET, PROJECT, client, step

bq = client()
engine = sa.create_engine(
    f"bigquery://{PROJECT}/{DATASET}?user_supplied_client=True",
    connect_args={"client": bq},
)
metadata = sa.MetaData()
people = sa.Table(
    "people",
    metadata,
    sa.Column("id", sa.Integer, nullable=False),
    sa.Column("name", sa.String),
    sa.Column("score", sa.Numeric),
    sa.Column("born", sa.Date),
    schema=DATASET,
)


def fetched(statement, **values):
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(inlined(statement), values)]


def executed(statement):
    with engine.begin() as connection:
        return connection.execute(inlined(statement)).rowcount


def inlined(statement):
    # The DB-API writes parameters as @`name`, which the emulator does not read; select_bound shows what then happens.
    if isinstance(statement, sa.TextClause):
        return statement
    return sa.text(str(statement.compile(engine, compile_kwargs={"literal_binds": True})).replace(":", r"\:"))


def main():
    step("create_dataset", lambda: bq.create_dataset(f"{PROJECT}.{DATASET}").dataset_id)
    statements()
    reflection()
    object_mapping()
    errors()
    step("drop_all", lambda: metadata.drop_all(engine))
    step("delete_dataset", lambda: bq.delete_dataset(f"{PROJECT}.{DATASET}", delete_contents=True))


def statements():
    step("select_one", lambda: fetched(sa.text("SELECT 1 AS x, 'a' AS y")))
    step("select_bound", lambda: fetched(sa.text("SELECT :n + 1 AS n, :s AS s"), n=41, s="it's “quoted”"))
    step("select_literals", lambda: fetched(sa.select(sa.literal(42), sa.literal("it's “quoted”"), sa.literal(datetime.date(2024, 2, 29)))))
    step("create_all", lambda: metadata.create_all(engine))
    step("insert_one", lambda: executed(people.insert().values(id=1, name="Ada", score=decimal.Decimal("1.5"), born=datetime.date(1815, 12, 10))))
    step("insert_many", lambda: executed(people.insert().values([{"id": n, "name": f"p{n}", "score": sa.null(), "born": sa.null()} for n in (2, 3)])))
    step("update", lambda: executed(people.update().where(people.c.id == 2).values(name="Bo")))
    step("delete", lambda: executed(people.delete().where(people.c.id == 3)))
    step("select_ordered", lambda: fetched(sa.select(people).order_by(people.c.id)))
    step("select_where", lambda: fetched(sa.select(people.c.name).where(people.c.name.in_(["Ada", "Bo"])).order_by(people.c.name)))
    step("select_aggregate", lambda: fetched(sa.select(sa.func.count(), sa.func.max(people.c.id))))
    step("select_limit", lambda: fetched(sa.select(people.c.id).order_by(people.c.id.desc()).limit(1)))
    step("select_unnest", lambda: fetched(sa.text("SELECT n FROM UNNEST([3, 1, 2]) AS n ORDER BY n")))
    step("select_many", lambda: many_rows())


def many_rows():
    numbers = [row[0] for row in fetched(sa.text("SELECT n FROM UNNEST(GENERATE_ARRAY(1, 12000)) AS n"))]
    return {"rows": len(numbers), "total": sum(numbers)}


def reflection():
    inspector = sa.inspect(engine)
    step("table_names", lambda: sorted(inspector.get_table_names(schema=DATASET)))
    step("has_table", lambda: [inspector.has_table(name, schema=DATASET) for name in ("people", "nowhere")])
    step("columns", lambda: [f"{column['name']} {column['type']} {column['nullable']}" for column in inspector.get_columns("people", schema=DATASET)])
    step("schema_names", lambda: DATASET in inspector.get_schema_names())
    step("reflected_select", reflected_select)


def reflected_select():
    reflected = sa.Table("people", sa.MetaData(), schema=DATASET, autoload_with=engine)
    return fetched(sa.select(reflected.c.id, reflected.c.name).order_by(reflected.c.id))


class Base(orm.DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "people"
    __table_args__ = {"schema": DATASET}
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]


def object_mapping():
    step("orm_query", orm_query)


def orm_query():
    with orm.Session(engine) as session:
        return [person.name for person in session.scalars(sa.select(Person).order_by(Person.id))]


def errors():
    step("error_syntax", lambda: fetched(sa.text("SELEC 1")))
    step("error_missing_table", lambda: fetched(sa.text(f"SELECT * FROM `{DATASET}.nowhere`")))
    step("error_missing_column", lambda: fetched(sa.text(f"SELECT nope FROM `{DATASET}.people`")))
    step("error_reflect_missing_table", lambda: sa.Table("nowhere", sa.MetaData(), schema=DATASET, autoload_with=engine).name)


if __name__ == "__main__":
    main()
