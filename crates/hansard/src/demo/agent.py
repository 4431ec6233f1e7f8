"""What a coding agent does with a warehouse: look around, query, join, fail, create, load, page through rows.

Google's own client library, unmodified; only its endpoint and its key are the gateway's.
"""

import io
import os

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPIError
from google.cloud import bigquery
from google.oauth2 import credentials, service_account

PROJECT = os.environ["PROJECT"]
GATEWAY = ClientOptions(api_endpoint=os.environ["GATEWAY"])


def client(credential):
    return bigquery.Client(project=PROJECT, credentials=credential, client_options=GATEWAY)


def say(text):
    print(f"   agent: {text}", flush=True)


def work(bq):
    say(f"looks around: {len(list(bq.list_datasets()))} datasets")
    bq.create_dataset("shop", exists_ok=True)
    bq.query("CREATE TABLE shop.customers (id INT64, name STRING, email STRING)").result()
    bq.query(
        "INSERT INTO shop.customers VALUES (1, 'Ada', 'ada@example.com'), (2, 'Grace', 'grace@example.com'),"
        " (3, 'Alan', 'alan@example.com')"
    ).result()
    say("created shop.customers with 3 rows")

    csv = io.BytesIO(b"".join(b"%d,%d,%.2f\n" % (n, n % 3 + 1, n * 1.5) for n in range(1, 2501)))
    orders = [
        bigquery.SchemaField("id", "INTEGER"),
        bigquery.SchemaField("customer", "INTEGER"),
        bigquery.SchemaField("amount", "FLOAT"),
    ]
    job = bq.load_table_from_file(
        csv, f"{PROJECT}.shop.orders", job_config=bigquery.LoadJobConfig(schema=orders, source_format="CSV")
    )
    say(f"loaded {job.result().output_rows} orders from a file")

    top = bq.query_and_wait(
        "SELECT c.name, COUNT(*) AS orders, ROUND(SUM(o.amount), 2) AS total"
        " FROM shop.orders AS o JOIN shop.customers AS c ON o.customer = c.id GROUP BY c.name ORDER BY total DESC"
    )
    for row in top:
        say(f"joined: {row.name} has {row.orders} orders, {row.total} in total")

    by_city = bigquery.QueryJobConfig(query_parameters=[bigquery.ScalarQueryParameter("least", "FLOAT64", 3700.0)])
    found = list(bq.query("SELECT id FROM shop.orders WHERE amount >= @least ORDER BY id", job_config=by_city).result())
    say(f"asked with a parameter: {len(found)} orders")

    try:
        bq.query("SELECT * FROM shop.invoices").result()
    except GoogleAPIError as error:
        say(f"failed, and was told why: {str(error.message).splitlines()[0][:80]}")

    for sql in (
        "BEGIN IF TRUE THEN DROP TABLE shop.customers; END IF; END",
        "EXPORT DATA OPTIONS (uri = 'gs://elsewhere/*.csv', format = 'CSV') AS SELECT * FROM shop.customers",
    ):
        try:
            bq.query(sql).result()
        except GoogleAPIError as error:
            say(f"may not: {str(error.message).split(': ', 1)[-1].splitlines()[0][:110]}")

    rows = bq.list_rows(f"{PROJECT}.shop.orders", page_size=1000)
    say(f"paged through {sum(1 for _ in rows)} rows in {rows.page_number} pages")


def main():
    work(client(service_account.Credentials.from_service_account_file(os.environ["KEY_FILE"])))
    person = client(credentials.Credentials(os.environ["PERSON_TOKEN"]))
    rows = list(person.query("SELECT COUNT(*) AS n FROM shop.orders").result())
    print(f"   ada, a person signed in by the provider, counts {rows[0].n} orders", flush=True)


if __name__ == "__main__":
    main()
