"""What the Python scenarios share: the environment, the output, and the client."""

import base64
import datetime
import decimal
import json
import os
import re

import google.auth.credentials
from google.api_core.client_options import ClientOptions
from google.cloud import bigquery
from google.oauth2 import credentials as oauth2_credentials
from google.oauth2 import service_account

# google-auth asks a Google address in the background for every service-account key. Nothing here may leave the machine,
# so whatever no proxy already takes care of ends at a closed port.
os.environ.setdefault("HTTPS_PROXY", "http://127.0.0.1:9")
os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")

# Absent under `hansard exec`: the client finds everything by itself.
URL = os.environ.get("BIGQUERY_URL")
PROJECT = os.environ.get("BIGQUERY_PROJECT", "proj")
DATASET = os.environ["BIGQUERY_DATASET"]
SCOPES = ["https://www.googleapis.com/auth/bigquery"]
MESSAGE_CHARS = 60


def credentials():
    if URL is None:
        return None
    if key_file := os.environ.get("BIGQUERY_KEY_FILE"):
        return service_account.Credentials.from_service_account_file(key_file, scopes=SCOPES)
    if token := os.environ.get("BIGQUERY_TOKEN"):
        return oauth2_credentials.Credentials(token)
    return google.auth.credentials.AnonymousCredentials()


def client():
    if URL is None:
        return bigquery.Client()
    return bigquery.Client(
        project=PROJECT,
        credentials=credentials(),
        client_options=ClientOptions(api_endpoint=URL),
    )


def step(name, run):
    """Runs one step and prints its line; a failing step never stops the next one."""
    try:
        line = {"step": name, "value": plain(run())}
    except Exception as error:
        line = {"step": name, "error": described(error)}
    print(json.dumps(line, ensure_ascii=False, sort_keys=True), flush=True)


def plain(value):
    """The value as JSON, with every type that JSON lacks spelled out."""
    if isinstance(value, bigquery.Row):
        return plain(dict(value.items()))
    if isinstance(value, str):
        return without_run_names(value)
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    if isinstance(value, (datetime.date, datetime.datetime, datetime.time)):
        return {type(value).__name__: value.isoformat()}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return {type(value).__name__: without_run_names(str(value))}


def described(error):
    # SQLAlchemy and the DB-API wrap the client's own error; the innermost one says what the server said.
    # Below that one, gRPC's says the same with its addresses.
    while (cause := getattr(error, "orig", None) or error.__cause__) and not hasattr(cause, "debug_error_string"):
        error = cause
    code = getattr(error, "code", None)
    return {
        "class": type(error).__name__,
        "code": int(code) if isinstance(code, int) else None,
        "message": human_text(str(error))[:MESSAGE_CHARS],
    }


def human_text(message):
    message = re.sub(r"^\d{3} ", "", message)
    message = re.sub(r"^(GET|POST|PUT|PATCH|DELETE) \S+: ", "", message)
    message = re.sub(r"\s*(Location: \S+)?\s*Job ID: .*", "", message, flags=re.S)
    message = re.sub(r"https?://\S+", "<url>", message)
    message = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>", message)
    return " ".join(without_run_names(message).split())


def without_run_names(text):
    text = text.replace(DATASET, "<dataset>")
    return re.sub(rf"\b{re.escape(PROJECT)}\b", "<project>", text)
