"""google-cloud-bigquery, doing what its users do; see ../README.md for the environment."""

import datetime
import decimal
import io
import json

from google.cloud import bigquery

from common import DATASET, PROJECT, client, step

bq = client()
dataset = f"{PROJECT}.{DATASET}"
ROWS_MANY = 5000
PAGE_ROWS = 1000


def rows(sql, **config):
    job_config = bigquery.QueryJobConfig(**config)
    return [dict(row.items()) for row in bq.query(sql, job_config=job_config).result()]


def typed(sql, **config):
    result = bq.query(sql, job_config=bigquery.QueryJobConfig(**config)).result()
    return {
        "types": [f"{field.field_type}:{field.mode}" for field in result.schema],
        "rows": [list(row.values()) for row in result],
    }


def affected(sql):
    job = bq.query(sql)
    job.result()
    return {"statement": job.statement_type, "affected": job.num_dml_affected_rows}


def main():
    datasets_and_queries()
    ddl_and_dml()
    scripts()
    parameters()
    types()
    writes()
    reads()
    jobs()
    metadata()
    errors()
    cleanup()


def datasets_and_queries():
    step("create_dataset", create_dataset)
    step("query_result", lambda: rows("SELECT 1 AS x, 'a' AS y"))
    step("query_and_wait", lambda: [list(row) for row in bq.query_and_wait("SELECT 2 AS x UNION ALL SELECT 3 ORDER BY x")])
    step("query_empty_result", lambda: typed("SELECT 1 AS x FROM (SELECT 1) WHERE FALSE"))
    step("query_with_comment", lambda: rows("/* {\"app\": \"scenario\"} */ SELECT 1 AS x -- why\n"))
    step("query_default_dataset", query_default_dataset)
    step("query_legacy_option_off", lambda: rows("SELECT 1 AS x", use_legacy_sql=False))
    step("query_max_results", lambda: [row.n for row in bq.query(numbers(10)).result(max_results=3)])


def create_dataset():
    wanted = bigquery.Dataset(dataset)
    wanted.location = "US"
    wanted.description = "made by a scenario"
    wanted.labels = {"made_by": "scenario"}
    created = bq.create_dataset(wanted)
    return {"id": created.dataset_id, "location": created.location, "description": created.description, "labels": created.labels}


def query_default_dataset():
    bq.query(f"CREATE TABLE `{dataset}.in_default` AS SELECT 'found' AS word").result()
    return rows("SELECT word FROM in_default", default_dataset=bigquery.DatasetReference(PROJECT, DATASET))


def numbers(count):
    return f"SELECT n, CONCAT('row ', CAST(n AS STRING)) AS word FROM UNNEST(GENERATE_ARRAY(1, {count})) AS n ORDER BY n"


def ddl_and_dml():
    step("ddl_create_table", lambda: affected(f"CREATE TABLE `{dataset}.people` (id INT64 NOT NULL, name STRING, score NUMERIC)"))
    step("dml_insert", lambda: affected(f"INSERT INTO `{dataset}.people` (id, name, score) VALUES (1, 'Ada', 1.5), (2, 'Bo', 2.5), (3, 'Cy', NULL)"))
    step("dml_update", lambda: affected(f"UPDATE `{dataset}.people` SET name = 'Bob' WHERE id = 2"))
    step("dml_delete", lambda: affected(f"DELETE FROM `{dataset}.people` WHERE id = 3"))
    step("dml_merge", merge)
    step("dml_result_rows", lambda: rows(f"SELECT * FROM `{dataset}.people` ORDER BY id"))
    step("ddl_create_view", lambda: affected(f"CREATE VIEW `{dataset}.names` AS SELECT name FROM `{dataset}.people`"))
    step("view_rows", lambda: rows(f"SELECT name FROM `{dataset}.names` ORDER BY name"))
    step("ddl_alter_table", lambda: affected(f"ALTER TABLE `{dataset}.people` ADD COLUMN note STRING"))
    step("ddl_create_function", create_function)
    step("ddl_drop_table", lambda: affected(f"DROP TABLE `{dataset}.in_default`"))


def merge():
    return affected(
        f"MERGE `{dataset}.people` t USING (SELECT 1 AS id, 'Ada L' AS name UNION ALL SELECT 4, 'Di') s ON t.id = s.id"
        " WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name)"
    )


def create_function():
    bq.query(f"CREATE FUNCTION `{dataset}.doubled`(x INT64) RETURNS INT64 AS (x * 2)").result()
    return rows(f"SELECT `{dataset}.doubled`(21) AS answer")


def scripts():
    step("script_if", lambda: rows("DECLARE x INT64 DEFAULT 1; SET x = x + 41; IF x = 42 THEN SELECT x AS answer; END IF;"))
    step("script_loop", lambda: rows("DECLARE i INT64 DEFAULT 0; WHILE i < 3 DO SET i = i + 1; END WHILE; SELECT i AS turns;"))
    step("script_statement_type", script_statement_type)
    step("script_execute_immediate", lambda: rows("EXECUTE IMMEDIATE CONCAT('SELECT 4', '2 AS answer');"))
    step("script_transaction", script_transaction)
    step("script_error", lambda: rows("DECLARE x INT64 DEFAULT 0; SELECT ERROR('raised on purpose');"))


def script_statement_type():
    job = bq.query("DECLARE x INT64 DEFAULT 5; SELECT x AS first; SELECT x + 1 AS second;")
    last = [list(row) for row in job.result()]
    return {"statement": job.statement_type, "last": last}


def script_transaction():
    bq.query(f"BEGIN TRANSACTION; UPDATE `{dataset}.people` SET name = 'Dee' WHERE id = 4; COMMIT TRANSACTION;").result()
    return rows(f"SELECT name FROM `{dataset}.people` WHERE id = 4")


def parameters():
    scalar = bigquery.ScalarQueryParameter
    step("param_named_scalars", lambda: rows(
        "SELECT @i AS i, @s AS s, @b AS b, @f AS f",
        query_parameters=[scalar("i", "INT64", 9007199254740993), scalar("s", "STRING", "it's “quoted”\n"), scalar("b", "BOOL", True), scalar("f", "FLOAT64", 0.25)],
    ))
    step("param_times", lambda: rows(
        "SELECT @d AS d, @ts AS ts",
        query_parameters=[
            scalar("d", "DATE", datetime.date(2024, 2, 29)),
            scalar("ts", "TIMESTAMP", datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc)),
        ],
    ))
    step("param_numeric_bytes", lambda: rows(
        "SELECT @n AS n, @y AS y",
        query_parameters=[scalar("n", "NUMERIC", decimal.Decimal("12345678901234567890.123456789")), scalar("y", "BYTES", b"\x00\xff")],
    ))
    step("param_null", lambda: rows("SELECT @s IS NULL AS absent", query_parameters=[scalar("s", "STRING", None)]))
    step("param_positional", lambda: rows("SELECT ? + ? AS total", query_parameters=[scalar(None, "INT64", 40), scalar(None, "INT64", 2)]))
    step("param_array", lambda: rows(
        "SELECT n FROM UNNEST(@ns) AS n ORDER BY n", query_parameters=[bigquery.ArrayQueryParameter("ns", "INT64", [3, 1, 2])]
    ))
    step("param_struct", lambda: rows(
        "SELECT @p.name AS name, @p.age AS age",
        query_parameters=[bigquery.StructQueryParameter("p", scalar("name", "STRING", "Ada"), scalar("age", "INT64", 36))],
    ))


def types():
    for name, sql in {
        "int64": "SELECT 9223372036854775807 AS v, -9223372036854775808 AS w",
        "float64": "SELECT 0.1 AS v, 1e300 AS w, -0.5 AS z",
        "float64_special": "SELECT CAST('NaN' AS FLOAT64) AS v, CAST('inf' AS FLOAT64) AS w, CAST('-inf' AS FLOAT64) AS z",
        "numeric": "SELECT NUMERIC '12345678901234567890.123456789' AS v",
        "bignumeric": "SELECT BIGNUMERIC '1234567890123456789012345.12345678901234567890' AS v",
        "bool": "SELECT TRUE AS v, FALSE AS w",
        "string": "SELECT 'plain' AS v, '' AS w",
        "string_unicode": "SELECT 'naïve 日本語 😀' AS v",
        "string_escapes": "SELECT 'tab\\tquote\\'back\\\\slash' AS v, \"double \\\"quoted\\\"\" AS w",
        "string_newlines": "SELECT 'one\\ntwo\\r\\nthree' AS v, '''four\nfive''' AS w",
        "bytes": "SELECT FROM_HEX('0001ff') AS v, b'' AS w",
        "date": "SELECT DATE '2024-02-29' AS v, DATE '0001-01-01' AS w",
        "datetime": "SELECT DATETIME '2024-02-29 23:59:59.999999' AS v",
        "time": "SELECT TIME '23:59:59.000001' AS v",
        "timestamp": "SELECT TIMESTAMP '2024-02-29 12:00:00.123456+00' AS v, TIMESTAMP '1969-12-31 23:59:59.5+00' AS w",
        "array": "SELECT [1, 2, 3] AS v, ['a', 'b'] AS w",
        "array_empty": "SELECT CAST([] AS ARRAY<INT64>) AS v",
        "struct": "SELECT STRUCT(1 AS a, 'x' AS b) AS v",
        "struct_nested": "SELECT STRUCT(1 AS a, STRUCT('x' AS c, [1, 2] AS d) AS b) AS v",
        "array_of_struct": "SELECT ARRAY<STRUCT<a INT64, b STRING>>[(1, 'x'), (2, 'y')] AS v",
        "json": "SELECT JSON '{\"a\": [1, 2.5, null], \"b\": \"c\"}' AS v",
        "interval": "SELECT INTERVAL 1 DAY AS v",
        "geography": "SELECT ST_ASTEXT(ST_GEOGPOINT(1, 2)) AS v",
        "null": "SELECT NULL AS v, CAST(NULL AS STRING) AS w, CAST(NULL AS TIMESTAMP) AS z",
    }.items():
        step(f"type_{name}", lambda sql=sql: typed(sql))


def writes():
    step("create_table", create_table)
    step("insert_rows_json", lambda: bq.insert_rows_json(f"{dataset}.items", [{"id": 1, "name": "nail", "tags": ["a", "b"]}, {"id": 2, "name": "nut"}], row_ids=["r1", "r2"]))
    step("insert_rows_json_partly_bad", lambda: bq.insert_rows_json(f"{dataset}.items", [{"id": "not a number"}, {"id": 3}], skip_invalid_rows=True))
    step("insert_rows_read_back", lambda: rows(f"SELECT id, name FROM `{dataset}.items` ORDER BY id"))
    step("load_csv_file", lambda: load_csv("from_csv", 2500))
    step("load_csv_file_large", lambda: load_csv("from_csv_large", 60000))
    step("load_ndjson_file", load_ndjson)
    step("load_ndjson_autodetect", load_ndjson_autodetect)
    step("load_table_from_json", lambda: loaded(bq.load_table_from_json([{"id": 1, "name": "x"}], f"{dataset}.from_json", job_config=bigquery.LoadJobConfig(schema=SCHEMA))))
    step("load_append", lambda: load_csv("from_csv", 10))
    step("load_bad_ndjson", load_bad_ndjson)
    step("copy_table", copy_table)


SCHEMA = [bigquery.SchemaField("id", "INT64"), bigquery.SchemaField("name", "STRING")]


def create_table():
    schema = [
        bigquery.SchemaField("id", "INT64", mode="REQUIRED", description="the key"),
        bigquery.SchemaField("name", "STRING"),
        bigquery.SchemaField("tags", "STRING", mode="REPEATED"),
    ]
    return schema_of(bq.create_table(bigquery.Table(f"{dataset}.items", schema=schema)))


def schema_of(table):
    return [f"{field.name} {field.field_type} {field.mode}" for field in table.schema]


def load_csv(table, count):
    text = "id,name\n" + "".join(f"{n},\"row, {n}\"\n" for n in range(count))
    config = bigquery.LoadJobConfig(source_format="CSV", skip_leading_rows=1, schema=SCHEMA)
    return loaded(bq.load_table_from_file(io.BytesIO(text.encode()), f"{dataset}.{table}", job_config=config))


def load_ndjson():
    text = "".join(json.dumps({"id": n, "name": f"é {n}"}) + "\n" for n in range(100))
    config = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", schema=SCHEMA)
    return loaded(bq.load_table_from_file(io.BytesIO(text.encode()), f"{dataset}.from_ndjson", job_config=config))


def load_ndjson_autodetect():
    text = '{"a": 1, "b": "x", "c": 1.5}\n{"a": 2, "b": "y", "c": 2.5}\n'
    config = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", autodetect=True)
    job = loaded(bq.load_table_from_file(io.BytesIO(text.encode()), f"{dataset}.detected", job_config=config))
    return {"job": job, "schema": schema_of(bq.get_table(f"{dataset}.detected"))}


def load_bad_ndjson():
    config = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", schema=SCHEMA)
    return loaded(bq.load_table_from_file(io.BytesIO(b'{"id": "not a number"}\n'), f"{dataset}.from_ndjson", job_config=config))


def loaded(job):
    job.result()
    return {"state": job.state, "output_rows": job.output_rows, "rows_now": bq.get_table(job.destination).num_rows}


def copy_table():
    bq.copy_table(f"{dataset}.from_ndjson", f"{dataset}.copied").result()
    return bq.get_table(f"{dataset}.copied").num_rows


def reads():
    step("list_rows_paged", lambda: paged(bq.list_rows(f"{dataset}.from_csv", page_size=PAGE_ROWS)))
    step("list_rows_window", lambda: sorted(row.id for row in bq.list_rows(f"{dataset}.from_csv", start_index=100, max_results=5)))
    step("list_rows_fields", lambda: [dict(row.items()) for row in bq.list_rows(f"{dataset}.from_csv", selected_fields=SCHEMA[:1], max_results=2)])
    step("query_paged", lambda: paged(bq.query(numbers(ROWS_MANY)).result(page_size=PAGE_ROWS)))
    step("query_and_wait_paged", lambda: paged(bq.query_and_wait(numbers(ROWS_MANY), page_size=PAGE_ROWS)))


def paged(iterator):
    pages, total, rows_seen = [], 0, set()
    for page in iterator.pages:
        ids = [row[0] for row in page]
        pages.append(len(ids))
        total += sum(ids)
        rows_seen.update(ids)
    return {"pages": pages, "total": total, "distinct": len(rows_seen), "total_rows": iterator.total_rows}


def jobs():
    step("dry_run", dry_run)
    step("dry_run_error", lambda: bq.query("SELECT * FROM nowhere.nothing", job_config=bigquery.QueryJobConfig(dry_run=True)).state)
    step("job_labels", job_labels)
    step("job_labels_read_back", lambda: user_labels(bq.get_job(f"{DATASET}_labelled")))
    step("get_job_again", get_job_again)
    step("cancel_done_job", lambda: bq.cancel_job(f"{DATASET}_labelled").state)
    step("list_jobs", lambda: sorted(job.job_id for job in bq.list_jobs(max_results=1000) if job.job_id.startswith(DATASET)))


def dry_run():
    job = bq.query(f"SELECT id FROM `{dataset}.people`", job_config=bigquery.QueryJobConfig(dry_run=True, use_query_cache=False))
    return {"state": job.state, "statement": job.statement_type, "bytes": job.total_bytes_processed, "dry_run": job.dry_run}


def job_labels():
    config = bigquery.QueryJobConfig(labels={"team": "data", "cost": "low"})
    job = bq.query("SELECT 1 AS x", job_config=config, job_id=f"{DATASET}_labelled", job_retry=None)
    job.result()
    return user_labels(job)


def user_labels(job):
    return {name: job.labels.get(name) for name in ("team", "cost")}


def get_job_again():
    job = bq.get_job(f"{DATASET}_labelled")
    return {"type": job.job_type, "state": job.state, "query": job.query, "rows": [list(row) for row in job.result()]}


def metadata():
    step("get_dataset", lambda: bq.get_dataset(dataset).description)
    step("update_dataset", update_dataset)
    step("list_datasets", lambda: DATASET in [each.dataset_id for each in bq.list_datasets()])
    step("list_tables", lambda: sorted(f"{each.table_id} {each.table_type}" for each in bq.list_tables(dataset)))
    step("get_table", get_table)
    step("update_table", update_table)
    step("update_table_schema", update_table_schema)
    step("create_routine", create_routine)
    step("list_routines", lambda: sorted(each.routine_id for each in bq.list_routines(dataset)))
    step("list_models", lambda: [each.model_id for each in bq.list_models(dataset)])
    step("delete_table", lambda: bq.delete_table(f"{dataset}.copied"))
    step("information_schema", lambda: rows(f"SELECT table_name FROM `{dataset}`.INFORMATION_SCHEMA.TABLES ORDER BY table_name"))


def update_dataset():
    found = bq.get_dataset(dataset)
    found.description = "changed"
    return bq.update_dataset(found, ["description"]).description


def get_table():
    table = bq.get_table(f"{dataset}.people")
    return {"type": table.table_type, "rows": table.num_rows, "schema": schema_of(table)}


def update_table():
    table = bq.get_table(f"{dataset}.items")
    table.description, table.labels = "described", {"kind": "hardware"}
    updated = bq.update_table(table, ["description", "labels"])
    return {"description": updated.description, "labels": updated.labels}


def update_table_schema():
    table = bq.get_table(f"{dataset}.items")
    table.schema = [*table.schema, bigquery.SchemaField("price", "NUMERIC")]
    return schema_of(bq.update_table(table, ["schema"]))


def create_routine():
    routine = bigquery.Routine(
        f"{dataset}.tripled",
        type_="SCALAR_FUNCTION",
        language="SQL",
        body="x * 3",
        arguments=[bigquery.RoutineArgument(name="x", data_type=bigquery.StandardSqlDataType(type_kind=bigquery.StandardSqlTypeNames.INT64))],
    )
    bq.create_routine(routine)
    return rows(f"SELECT `{dataset}.tripled`(14) AS answer")


def errors():
    step("error_syntax", lambda: rows("SELEC 1"))
    step("error_syntax_query_and_wait", lambda: list(bq.query_and_wait("SELEC 1")))
    step("error_unknown_column", lambda: rows(f"SELECT nope FROM `{dataset}.people`"))
    step("error_division_by_zero", lambda: rows("SELECT 1/0"))
    step("error_missing_table_in_query", lambda: rows(f"SELECT * FROM `{dataset}.nowhere`"))
    step("error_missing_table", lambda: bq.get_table(f"{dataset}.nowhere").num_rows)
    step("error_missing_dataset", lambda: bq.get_dataset(f"{dataset}_nowhere").dataset_id)
    step("error_missing_job", lambda: bq.get_job("scenario-no-such-job").state)
    step("error_list_rows_missing_table", lambda: list(bq.list_rows(f"{dataset}.nowhere")))
    step("error_dataset_exists", lambda: bq.create_dataset(dataset).dataset_id)
    step("error_table_exists", lambda: bq.create_table(bigquery.Table(f"{dataset}.items", schema=SCHEMA)).table_id)
    step("error_dataset_not_empty", lambda: bq.delete_dataset(dataset))


def cleanup():
    step("delete_dataset", lambda: bq.delete_dataset(dataset, delete_contents=True))
    step("dataset_is_gone", lambda: bq.get_dataset(dataset).dataset_id)


if __name__ == "__main__":
    main()
