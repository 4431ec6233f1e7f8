"""dbt with BigQuery, doing what its users do with the project in ../dbt; see ../README.md for the environment."""

import json
import logging
import os
import pathlib
import tempfile

from dbt.cli.main import dbtRunner

from common import URL, client, described, human_text, plain, step

logging.disable()
PROJECT_FOLDER = pathlib.Path(__file__).parent.parent / "dbt"
TARGET = tempfile.TemporaryDirectory()
os.environ["DBT_TARGET"] = "exec" if URL is None else "key" if os.environ.get("BIGQUERY_KEY_FILE") else "token"
os.environ["DBT_TARGET_PATH"] = os.environ["DBT_LOG_PATH"] = TARGET.name
RUNNER = dbtRunner()
MESSAGE_CHARS = 160


def dbt(*words):
    places = ["--project-dir", PROJECT_FOLDER, "--profiles-dir", PROJECT_FOLDER]
    quiet = ["--quiet", "--log-level", "none", "--log-level-file", "none"]
    return RUNNER.invoke([*quiet, *words, *map(str, places)])


def nodes(*words):
    """What became of each node, without its job's id and times."""
    done = dbt(*words)
    if done.exception:
        raise done.exception
    return [
        {
            "node": result.node.unique_id.split(".")[2],
            "status": str(result.status),
            "message": human_text(result.message or "")[:MESSAGE_CHARS],
            "rows": (result.adapter_response or {}).get("rows_affected"),
        }
        for result in done.result.results
    ]


def main():
    step("debug", lambda: dbt("debug").success)
    step("seed", lambda: nodes("seed"))
    step("run", lambda: nodes("run", "--exclude", "tag:broken"))
    step("run_incremental", lambda: nodes("run", "--select", "ordered"))
    step("run_full_refresh", lambda: nodes("run", "--select", "ordered", "--full-refresh"))
    step("run_broken", lambda: nodes("run", "--select", "tag:broken"))
    step("test", lambda: nodes("test"))
    step("snapshot", lambda: nodes("snapshot"))
    step("snapshot_again", lambda: nodes("snapshot"))
    step("show", show)
    step("docs_generate", lambda: dbt("docs", "generate", "--exclude", "tag:broken").success)
    step("source_of_statements", comments)
    step("drop_all", lambda: dbt("run-operation", "drop_all").success)
    step("dataset_is_gone", lambda: client().get_dataset(os.environ["BIGQUERY_DATASET"]).dataset_id)


def show():
    shown = dbt("show", "--select", "spent")
    if shown.exception:
        raise shown.exception
    return sorted(list(map(str, row.values())) for row in shown.result.results[0].agate_table.rows)


def comments():
    """dbt says in each statement which node it is of."""
    from common import DATASET

    statements = [job.query for job in client().list_jobs(max_results=1000) if job.job_type == "query" and DATASET in job.query]
    said = [json.loads(sql[2 : sql.index("*/")]) for sql in statements if sql.startswith("/*")]
    return sorted({node.split(".")[2] for each in said if (node := each.get("node_id"))})


if __name__ == "__main__":
    main()
