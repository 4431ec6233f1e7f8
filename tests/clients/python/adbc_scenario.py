"""ADBC, which is Google's Go client below, doing what its users do; see ../README.md for the environment.

It takes no address. It reads every result by the Storage API, from the table that the job names: the emulator names one
that does not exist, but for statements that make a table."""

import adbc_driver_bigquery as options
from adbc_driver_bigquery import dbapi

from common import DATASET, PROJECT, client, step

TABLE = f"{DATASET}.people"


def main():
    bq = client()
    step("create_dataset", lambda: bq.create_dataset(DATASET).dataset_id)
    connection = dbapi.connect({options.DatabaseOptions.PROJECT_ID.value: PROJECT, options.DatabaseOptions.DATASET_ID.value: DATASET})
    with connection, connection.cursor() as cursor:
        step("create_table", lambda: changed(cursor, f"CREATE TABLE {TABLE} (id INT64, name STRING, score FLOAT64)"))
        step("insert", lambda: changed(cursor, f"INSERT INTO {TABLE} VALUES (1, 'Ada', 1.5), (2, 'Bo', 2.5), (3, NULL, NULL)"))
        step("anonymous_result", lambda: rows(cursor, "SELECT 1 AS x"))
        step("create_table_as", lambda: changed(cursor, f"CREATE TABLE {DATASET}.result AS SELECT name, score FROM {TABLE}"))
        step("rows_by_python", lambda: sorted((list(row) for row in bq.query(f"SELECT name, score FROM {DATASET}.result").result()), key=str))
        step("error_syntax", lambda: rows(cursor, "SELEC 1"))
        step("error_missing_table", lambda: rows(cursor, f"SELECT * FROM {DATASET}.nowhere"))
    step("delete_dataset", lambda: bq.delete_dataset(DATASET, delete_contents=True))


def changed(cursor, sql):
    cursor.execute(sql)
    return cursor.rowcount


def rows(cursor, sql):
    cursor.execute(sql)
    return sorted((list(row.values()) for row in cursor.fetch_arrow_table().to_pylist()), key=str)


if __name__ == "__main__":
    main()
