"""bigframes, doing what its users do; see ../README.md for the environment.

A session starts by asking for the time as `current_timestamp`, which the emulator answers without a row: no session is
to be had from it. The first step shows that both ways; the clock alone is replaced for the others. Nor has the emulator
a table's location, which `read_gbq_table` compares, or a session's own dataset for uploads."""

import logging
import time
import warnings

import bigframes.pandas as bpd
import pandas as pd
from bigframes.session.time import BigQuerySyncedClock
from google.cloud import bigquery

from common import DATASET, PROJECT, URL, client, credentials, step
from storage_clients import read_client, write_client

warnings.simplefilter("ignore")
logging.disable()
bq = client()
PEOPLE = f"{PROJECT}.{DATASET}.people"


def main():
    step("create_dataset", create_dataset)
    step("create_table", lambda: list(bq.query(f"CREATE TABLE `{PEOPLE}` AS SELECT 1 AS id, 'Ada' AS name UNION ALL SELECT 2, 'Bo'").result()))
    bpd.options.display.progress_bar = None
    bpd.options.bigquery.project = PROJECT
    bpd.options.bigquery.location = "US"
    if URL:
        bpd.options.bigquery.credentials = credentials()
        bpd.options.bigquery.client_endpoints_override = {"bqclient": URL}
    step("session_and_its_clock", lambda: type(bpd.get_global_session()).__name__)
    BigQuerySyncedClock.sync = synced
    step("session", start)
    step("read_query", lambda: rows(bpd.read_gbq("SELECT 1 AS x, 'a' AS y")))
    step("read_table", lambda: rows(bpd.read_gbq_table(PEOPLE)))
    step("peek", lambda: len(people().peek(1)))
    step("filter", lambda: rows(people().query("id > 1")))
    step("sum", lambda: int(people()["id"].sum()))
    step("group", lambda: rows(people().groupby("name", as_index=False).agg({"id": "sum"})))
    step("to_gbq", lambda: people().to_gbq(f"{PROJECT}.{DATASET}.copied", if_exists="replace") and copied())
    for engine in ("bigquery_inline", "bigquery_load", "bigquery_streaming", "bigquery_write"):
        step(f"upload_{engine}", lambda: rows(bpd.read_pandas(pd.DataFrame({"a": [1, 2]}), write_engine=engine)))
    step("error_syntax", lambda: rows(bpd.read_gbq("SELEC 1")))
    step("error_missing_table", lambda: rows(bpd.read_gbq_table(f"{PROJECT}.{DATASET}.nowhere")))
    step("close", bpd.close_session)
    step("delete_dataset", lambda: bq.delete_dataset(DATASET, delete_contents=True))


def people():
    return bpd.read_gbq(f"SELECT * FROM `{PEOPLE}`")


def create_dataset():
    dataset = bigquery.Dataset(f"{PROJECT}.{DATASET}")
    dataset.location = "US"
    return bq.create_dataset(dataset).dataset_id


def synced(clock):
    clock._sync_remote_time = next(iter(clock._bqclient.query_and_wait("SELECT CURRENT_TIMESTAMP() AS now_")))[0]
    clock._sync_monotonic_time = time.monotonic()


def start():
    session = bpd.get_global_session()
    if URL:
        session._clients_provider._bqstoragereadclient = read_client()
        session._clients_provider._bqstoragewriteclient = write_client()
    return type(session).__name__


def rows(frame):
    return sorted(frame.to_pandas().astype(object).values.tolist(), key=str)


def copied():
    return bq.get_table(f"{PROJECT}.{DATASET}.copied").num_rows


if __name__ == "__main__":
    main()
