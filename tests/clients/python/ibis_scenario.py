"""ibis, doing what its users do; see ../README.md for the environment.

Results of `execute` are read from the query's anonymous table by the Storage API, which the emulator has no such table
for: those steps show its gap both ways. `read_*` read the same expressions from a table of their own."""

import warnings

import ibis

from common import DATASET, PROJECT, URL, client, step
from storage_clients import read_client

warnings.simplefilter("ignore")
bq = client()
HERE = f"{PROJECT}.{DATASET}"
# With neither client, as under `hansard exec`, ibis makes both by itself.
CLIENTS = {"client": bq, "storage_client": read_client()} if URL else {}


def main():
    step("create_dataset", lambda: bq.create_dataset(DATASET).dataset_id)
    con = ibis.bigquery.connect(project_id=PROJECT, dataset_id=HERE, **CLIENTS)
    tables(con)
    queries(con)
    writes(con)
    errors(con)
    step("delete_dataset", lambda: bq.delete_dataset(DATASET, delete_contents=True))


def tables(con):
    step("create_table", lambda: described(con.create_table("people", schema=ibis.schema({"id": "int64", "name": "string", "score": "float64"}))))
    step("insert", lambda: rest(con, f"INSERT INTO `{HERE}.people` VALUES (1, 'Ada', 1.5), (2, 'Bo', 2.5), (3, NULL, NULL)"))
    step("create_table_as", lambda: described(con.create_table("doubled", con.table("people").mutate(twice=ibis._.id * 2))))
    step("create_view", lambda: described(con.create_view("early", con.table("people").filter(ibis._.id < 3))))
    step("list_tables", lambda: sorted(con.list_tables()))
    step("list_databases", lambda: DATASET in con.list_databases())
    step("get_schema", lambda: {name: str(kind) for name, kind in con.get_schema("people").items()})


def described(table):
    return {name: str(kind) for name, kind in table.schema().items()}


def rest(con, sql, **options):
    return [tuple(row) for row in con.raw_sql(sql, **options)]


def queries(con):
    people, wanted = con.table("people"), ibis.param("int64")
    by_name = people.group_by("name").agg(n=ibis._.count(), most=ibis._.score.max()).order_by("name")
    joined = people.join(con.table("doubled").select("id", "twice"), "id").order_by("id").select("name", "twice")
    many = con.sql("SELECT n FROM UNNEST(GENERATE_ARRAY(1, 12000)) AS n")
    step("raw_sql", lambda: rest(con, "SELECT 1 AS x, 'a' AS y"))
    step("parameter", lambda: rest(con, con.compile(people.filter(people.id == wanted).select("name"), params={wanted: 2})))
    step("expression_by_rest", lambda: rest(con, con.compile(by_name)))
    step("join_by_rest", lambda: rest(con, con.compile(joined)))
    step("expression", lambda: stored(con, by_name))
    step("join", lambda: stored(con, joined))
    step("window", lambda: stored(con, people.mutate(place=ibis.row_number().over(order_by=ibis.desc("id"))).order_by("id")))
    step("view", lambda: stored(con, con.table("early").order_by("id")))
    step("many", lambda: sum(row["n"] for row in stored(con, many)))
    step("execute", lambda: by_name.execute().values.tolist())
    step("to_pyarrow", lambda: by_name.to_pyarrow().to_pylist())
    step("to_pyarrow_batches", lambda: [batch.num_rows for batch in many.to_pyarrow_batches()])


def stored(con, expression):
    """The expression's rows by the Storage API, from a table that it is made into."""
    con.create_table("result", expression, overwrite=True)
    rows = con.client.list_rows(con.client.get_table(f"{HERE}.result")).to_arrow(bqstorage_client=con.storage_client)
    return sorted(rows.to_pylist(), key=str)


def writes(con):
    step("memtable", lambda: rest(con, con.compile(ibis.memtable({"a": [1, 2]}))))
    step("insert_rows", lambda: con.insert("people", [{"id": 4, "name": "Di", "score": 0.5}]))
    step("upsert", lambda: con.upsert("people", con.table("doubled").select("id", "name", "score"), on="id"))
    step("truncate", lambda: con.truncate_table("doubled", database=HERE))


def errors(con):
    step("error_syntax", lambda: rest(con, "SELEC 1"))
    step("error_missing_table", lambda: con.table("nowhere"))
    step("error_missing_table_in_query", lambda: rest(con, f"SELECT * FROM `{HERE}.nowhere`"))
    step("error_missing_column", lambda: rest(con, f"SELECT nope FROM `{HERE}.people`"))
    step("error_missing_database", lambda: con.list_tables(database=f"{PROJECT}.{DATASET}_nowhere"))


if __name__ == "__main__":
    main()
