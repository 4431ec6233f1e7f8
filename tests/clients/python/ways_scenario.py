"""google-cloud-bigquery in a program that names no address and no credential: both are in its environment.

WAYS_STORAGE asks for a read by the Storage API too. Straight at the emulator, both addresses are given; see ../README.md."""

import io
import os

from google.cloud import bigquery

from common import DATASET, client, step
from storage_clients import read_client

PEOPLE = f"{DATASET}.people"
CSV = bigquery.LoadJobConfig(source_format="CSV", skip_leading_rows=1)


def main():
    bq = client()
    step("create_dataset", lambda: bq.create_dataset(DATASET).dataset_id)
    step("create_table", lambda: list(bq.query(f"CREATE TABLE {PEOPLE} (id INT64, name STRING)").result()))
    step("load", lambda: load(bq))
    step("insert_rows", lambda: bq.insert_rows_json(PEOPLE, [{"id": 3, "name": "Cy"}]))
    step("query", lambda: [list(row) for row in bq.query(f"SELECT name FROM {PEOPLE} WHERE id < 3 ORDER BY id").result()])
    step("query_and_wait", lambda: [list(row) for row in bq.query_and_wait(f"SELECT COUNT(*) FROM {PEOPLE}")])
    step("list_rows", lambda: sorted(row.id for row in bq.list_rows(PEOPLE)))
    if os.environ.get("WAYS_STORAGE"):
        step("storage_read", lambda: bq.list_rows(PEOPLE).to_arrow(bqstorage_client=read_client()).num_rows)
    step("error_missing_table", lambda: bq.get_table(f"{DATASET}.nowhere").num_rows)
    step("delete_dataset", lambda: bq.delete_dataset(DATASET, delete_contents=True))


def load(bq):
    job = bq.load_table_from_file(io.BytesIO(b"id,name\n1,Ada\n2,Bo\n"), PEOPLE, job_config=CSV)
    return job.result().output_rows


if __name__ == "__main__":
    main()
