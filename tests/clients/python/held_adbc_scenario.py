"""ADBC, which is Google's Go client below, while its statement waits for a human; see ../README.md for the environment."""

import time

import adbc_driver_bigquery as options
from adbc_driver_bigquery import dbapi

from common import DATASET, PROJECT, step


def main():
    connection = dbapi.connect({options.DatabaseOptions.PROJECT_ID.value: PROJECT, options.DatabaseOptions.DATASET_ID.value: DATASET})
    with connection, connection.cursor() as cursor:
        step("held_adbc", lambda: waited(cursor))


def waited(cursor):
    begun = time.monotonic()
    cursor.execute(f"CREATE TABLE {DATASET}.adbc AS SELECT 1 AS x")
    return int(time.monotonic() - begun)


if __name__ == "__main__":
    main()
