"""Turns one answer of curl or bq into one line of JSON; see README.md.

    shape.py http NAME STATUS BODY_FILE HEADERS_FILE EXPRESSION
    shape.py command NAME EXIT_CODE OUTPUT_FILE EXPRESSION

EXPRESSION is Python over `status`, `body` and `headers` of an answer, or `body` and `text` of an output.
An answer of 400 and above, or an exit code above 0, is an error.
"""

import json
import os
import re
import sys

PROJECT = os.environ.get("BIGQUERY_PROJECT", "proj")
DATASET = os.environ["BIGQUERY_DATASET"]
URL = os.environ.get("BIGQUERY_URL", "https://bigquery.googleapis.com")
MESSAGE_CHARS = 60


def main():
    form, name, result, *rest = sys.argv[1:]
    line = {"http": http, "command": command}[form](int(result), *rest)
    print(json.dumps({"step": name, **line}, ensure_ascii=False, sort_keys=True), flush=True)


def http(status, body_file, headers_file, expression):
    text, headers = read(body_file), header_fields(read(headers_file))
    if status >= 400:
        return {"error": http_error(status, text)}
    return value(expression, status=status, body=parsed(text), headers=headers)


def http_error(status, text):
    error = (parsed(text) or {}).get("error")
    error = error if isinstance(error, dict) else {}
    reasons = [each.get("reason") for each in error.get("errors") or []]
    return {"class": (reasons or [None])[0], "code": status, "message": message(error.get("message") or "")}


def command(exit_code, output_file, expression):
    text = read(output_file)
    if exit_code != 0:
        kind, _, rest = " ".join(text.split()).partition(": ")
        rest = re.sub(r"^Error processing job '[^']*': ", "", rest)
        return {"error": {"class": kind, "code": exit_code, "message": message(rest)}}
    return value(expression, body=parsed(text), text=text)


def value(expression, **names):
    try:
        return {"value": plain(eval(expression, {"URL": URL, "DATASET": DATASET, "total": total}, names))}
    except Exception as error:
        return {"error": {"class": type(error).__name__, "code": None, "message": message(str(error))}}


def total(rows):
    return sum(int(row["f"][0]["v"] if "f" in row else row["n"]) for row in rows)


def plain(found):
    if isinstance(found, str):
        return without_run_names(found)
    if isinstance(found, dict):
        return {key: plain(each) for key, each in found.items()}
    if isinstance(found, (list, tuple)):
        return [plain(each) for each in found]
    return found


def message(text):
    text = re.sub(r"https?://\S+", "<url>", text)
    return " ".join(without_run_names(text).split())[:MESSAGE_CHARS]


def without_run_names(text):
    text = text.replace(DATASET, "<dataset>")
    return re.sub(rf"\b{re.escape(PROJECT)}\b", "<project>", text)


def parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


def header_fields(text):
    lines = [line.partition(":") for line in text.splitlines() if ":" in line]
    return {name.strip().lower(): content.strip() for name, _, content in lines}


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


main()
