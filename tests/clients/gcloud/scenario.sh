#!/usr/bin/env bash
# gcloud, doing what its users do with BigQuery; see ../README.md for the environment.
set -uo pipefail

# Without an address, as under `hansard exec`, gcloud finds everything by itself.
: "${BIGQUERY_DATASET:?}"
export BIGQUERY_DATASET BIGQUERY_PROJECT="${BIGQUERY_PROJECT:-proj}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
d=$BIGQUERY_DATASET

main() {
  command -v gcloud >/dev/null || { echo 'gcloud is not installed' >&2; exit 77; }
  if [[ -n ${BIGQUERY_URL:-} ]]; then
    private_configuration
  fi
  step dataset_create '[x["id"], x["location"]]' datasets create "$d"
  step dataset_list "any(y['datasetReference']['datasetId'] == '$d' for y in x)" datasets list
  step table_create 'x["id"]' tables create people --dataset="$d"
  step table_list '[y["id"] for y in x]' tables list --dataset="$d"
  step table_missing 'x' tables describe nowhere --dataset="$d"
  step dataset_delete 'x' datasets delete "$d" --remove-tables
  step dataset_is_gone 'x' datasets describe "$d"
}

# Nothing of the person's own logins or settings may take part.
private_configuration() {
  export CLOUDSDK_CONFIG="$work/gcloud" CLOUDSDK_API_ENDPOINT_OVERRIDES_BIGQUERY="$BIGQUERY_URL/bigquery/v2/"
  export CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=1 CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=1
  mkdir "$CLOUDSDK_CONFIG"
  if [[ -z ${CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE:-} ]]; then
    (umask 077 && printf '%s' "${BIGQUERY_TOKEN:-anonymous}" >"$work/token")
    export CLOUDSDK_AUTH_ACCESS_TOKEN_FILE="$work/token"
  fi
}

# step NAME EXPRESSION WORDS...: the expression is of the answer x, in Python.
step() {
  local name=$1 shape=$2
  shift 2
  timeout 120 gcloud alpha bq "$@" --project="$BIGQUERY_PROJECT" --format=json --quiet >"$work/out" 2>"$work/err" </dev/null
  python3 - "$name" "$shape" $? "$work/out" "$work/err" <<'PYTHON'
import json, os, re, sys

name, shape, code, out, err = sys.argv[1:]
known = lambda text: re.sub(r"https?://\S+", "<url>", text).replace(os.environ["BIGQUERY_DATASET"], "<dataset>")
# How it is authenticated differs, and gcloud says so.
said = lambda text: known(" ".join(text.split())).split(". This command is authenticated")[0]
if code == "0":
    text = open(out).read()
    line = {"step": name, "value": json.loads(known(json.dumps(eval(shape, {"x": json.loads(text) if text.strip() else None}))))}
else:
    line = {"step": name, "error": {"code": int(code), "message": said(open(err).read())}}
print(json.dumps(line, sort_keys=True))
PYTHON
}

main
