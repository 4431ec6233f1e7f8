"""google-cloud-bigquery while its statements wait for a human; see ../README.md for the environment."""

import threading
import time

from common import DATASET, client, step


def main():
    bq = client()
    statements = {
        "held_insert": lambda: waited(lambda: list(bq.query(made("python_insert")).result())),
        "held_query": lambda: waited(lambda: list(bq.query_and_wait(made("python_query")))),
        "cancelled": lambda: cancelled(bq),
    }
    threads = [threading.Thread(target=step, args=each) for each in statements.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def made(name):
    return f"CREATE TABLE {DATASET}.{name} AS SELECT 1 AS x"


def waited(run):
    begun = time.monotonic()
    run()
    return int(time.monotonic() - begun)


def cancelled(bq):
    job = bq.query(made("python_cancelled"))
    time.sleep(1)
    states = [job.state]
    job.cancel()
    job.reload()
    return states + [job.state, job.error_result["reason"]]


if __name__ == "__main__":
    main()
