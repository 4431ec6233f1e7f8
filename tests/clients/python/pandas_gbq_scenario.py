"""pandas-gbq, doing what its users do; see ../README.md for the environment."""

import os

import numpy as np
import pandas as pd
import pandas_gbq

from common import DATASET, PROJECT, URL, client, credentials, step

# A client given as bigquery_client is not enough: pandas-gbq makes another one from its credentials, which forgets the endpoint.
if URL:
    os.environ["BIGQUERY_EMULATOR_HOST"] = URL
bq = client()
CREDENTIALS = credentials()
FRAME = pd.DataFrame({"id": [1, 2, 3], "name": ["Ada", "Bo", None], "score": [1.5, 2.5, 3.5]})


def read(sql, **options):
    frame = pandas_gbq.read_gbq(
        sql,
        project_id=PROJECT,
        credentials=CREDENTIALS,
        use_bqstorage_api=False,
        progress_bar_type=None,
        **options,
    )
    return shown(frame)


def shown(frame):
    return {
        "columns": [f"{name} {dtype}" for name, dtype in frame.dtypes.items()],
        "rows": [[shown_cell(cell) for cell in row] for row in frame.astype(object).values.tolist()],
    }


def shown_cell(cell):
    if isinstance(cell, np.ndarray):
        return cell.tolist()
    return None if pd.api.types.is_scalar(cell) and pd.isna(cell) else cell


def write(table, frame=FRAME, **options):
    pandas_gbq.to_gbq(
        frame,
        f"{DATASET}.{table}",
        project_id=PROJECT,
        credentials=CREDENTIALS,
        progress_bar=False,
        **options,
    )
    return read(f"SELECT id, name, score FROM `{DATASET}.{table}` ORDER BY id, name")


def main():
    step("create_dataset", lambda: bq.create_dataset(f"{PROJECT}.{DATASET}").dataset_id)
    step("make_table", make_table)
    reads()
    writes()
    errors()
    step("delete_dataset", lambda: bq.delete_dataset(f"{PROJECT}.{DATASET}", delete_contents=True))


def make_table():
    bq.query(f"CREATE TABLE `{DATASET}.cities` AS SELECT 'Oslo' AS city, 700 AS people UNION ALL SELECT 'Bergen', 290").result()


def reads():
    step("read_simple", lambda: read("SELECT 1 AS x, 'a' AS y"))
    step("read_table", lambda: read(f"SELECT * FROM `{DATASET}.cities` ORDER BY city"))
    step("read_table_by_name", lambda: read(f"{PROJECT}.{DATASET}.cities", max_results=1)["columns"])
    step("read_index", lambda: read(f"SELECT city, people FROM `{DATASET}.cities` ORDER BY city", index_col="city"))
    step("read_column_order", lambda: read(f"SELECT city, people FROM `{DATASET}.cities` ORDER BY city", columns=["people", "city"]))
    step("read_types", lambda: read("SELECT 1 AS i, 0.5 AS f, TRUE AS b, 'é\\n' AS s, DATE '2024-02-29' AS d, TIMESTAMP '2024-02-29 12:00:00.5+00' AS t, NUMERIC '1.25' AS n"))
    step("read_nulls", lambda: read("SELECT CAST(NULL AS INT64) AS i, CAST(NULL AS STRING) AS s, CAST(NULL AS TIMESTAMP) AS t"))
    step("read_array", lambda: read("SELECT [1, 2] AS numbers"))
    step("read_parameters", read_parameters)
    step("read_empty", lambda: read("SELECT 1 AS x FROM (SELECT 1) WHERE FALSE"))
    step("read_many", read_many)
    step("dry_run", lambda: float(pandas_gbq.read_gbq("SELECT 1 AS x", project_id=PROJECT, credentials=CREDENTIALS, dry_run=True)["totalBytesProcessed"]))


def read_parameters():
    configuration = {
        "query": {
            "parameterMode": "NAMED",
            "queryParameters": [{"name": "n", "parameterType": {"type": "INT64"}, "parameterValue": {"value": "42"}}],
        }
    }
    return read("SELECT @n AS answer", configuration=configuration)


def read_many():
    frame = read("SELECT n, MOD(n, 7) AS m FROM UNNEST(GENERATE_ARRAY(1, 12000)) AS n")
    return {"rows": len(frame["rows"]), "total": sum(row[0] for row in frame["rows"])}


def writes():
    step("write_csv", lambda: write("from_csv", api_method="load_csv"))
    step("write_parquet", lambda: write("from_parquet", api_method="load_parquet"))


def errors():
    step("error_syntax", lambda: read("SELEC 1"))
    step("error_missing_table", lambda: read(f"SELECT * FROM `{DATASET}.nowhere`"))
    step("error_missing_table_by_name", lambda: read(f"{PROJECT}.{DATASET}.nowhere"))
    step("error_missing_column", lambda: read(f"SELECT nope FROM `{DATASET}.cities`"))


if __name__ == "__main__":
    main()
