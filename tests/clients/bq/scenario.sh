#!/usr/bin/env bash
# The bq command line, doing what its users do; see ../README.md for the environment.
set -uo pipefail

# Without an address, as under `hansard exec`, bq finds everything by itself.
: "${BIGQUERY_DATASET:?}"
export BIGQUERY_DATASET BIGQUERY_PROJECT="${BIGQUERY_PROJECT:-proj}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
d=$BIGQUERY_DATASET

main() {
  command -v bq >/dev/null || { echo 'bq is not installed' >&2; exit 77; }
  if [[ -n ${BIGQUERY_URL:-} ]]; then
    private_configuration
    authorize
    flags+=(--api "$BIGQUERY_URL")
  fi
  discovery
  step mk_dataset 'bool(text)' mk --dataset --location=US "$d"
  queries
  writes
  reads
  errors
  step rm_dataset 'text' rm -r -f -d "$d"
}

# Nothing of the person's own gcloud logins or settings may take part.
private_configuration() {
  export CLOUDSDK_CONFIG="$work/gcloud" BIGQUERYRC="$work/bigqueryrc"
  export CLOUDSDK_CORE_DISABLE_PROMPTS=1 CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=1 CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=1
  unset GOOGLE_APPLICATION_CREDENTIALS
  mkdir "$CLOUDSDK_CONFIG"
  : >"$BIGQUERYRC"
}

authorize() {
  if [[ -n ${BIGQUERY_KEY_FILE:-} ]]; then
    export CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE="$BIGQUERY_KEY_FILE"
    CLOUDSDK_AUTH_TOKEN_HOST=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["token_uri"])' "$BIGQUERY_KEY_FILE")
    export CLOUDSDK_AUTH_TOKEN_HOST
  else
    (umask 077 && printf '%s' "${BIGQUERY_TOKEN:-anonymous}" >"$work/token")
    export CLOUDSDK_AUTH_ACCESS_TOKEN_FILE="$work/token"
  fi
}

# bq asks a custom endpoint for its discovery document, which the emulator does not serve.
discovery() {
  local served=true
  timeout 120 bq "${flags[@]}" ls >"$work/out" 2>&1 </dev/null
  if grep -q 'response from discovery url' "$work/out"; then
    served=false
    bundled_document >"$work/discovery.json"
    flags+=(--discovery_file "$work/discovery.json")
  fi
  printf '{"step": "discovery", "value": {"served": %s}}\n' "$served"
}

bundled_document() {
  python3 - "$(readlink -f "$(command -v bq)")" <<'PYTHON'
import json, os, pathlib, sys
document = json.loads((pathlib.Path(sys.argv[1]).parents[1] / "platform/bq/discovery_next/bigquery.json").read_text())
document["rootUrl"] = os.environ["BIGQUERY_URL"] + "/"
document["baseUrl"] = document["rootUrl"] + document["servicePath"]
print(json.dumps(document))
PYTHON
}

flags=(--project_id "$BIGQUERY_PROJECT" --headless --quiet --format=json)

# step NAME EXPRESSION BQ_ARGUMENTS...
step() {
  timeout 120 bq "${flags[@]}" "${@:3}" >"$work/out" 2>"$work/err" </dev/null
  python3 "$here/../shape.py" command "$1" $? "$work/out" "$2"
}

sql() { step "$1" "$2" query --use_legacy_sql=false "${@:3}"; }

queries() {
  sql query 'body' 'SELECT 1 AS x, "naïve 日本語\n" AS y, [1, 2] AS z, STRUCT("a" AS b) AS s, CAST(NULL AS DATE) AS n'
  sql query_rpc 'body' --rpc=true 'SELECT 1 AS x, "a" AS y'
  sql query_parameters 'body' --parameter=n:INT64:42 --parameter="s::it's" --parameter='ns:ARRAY<INT64>:[1,2]' \
    'SELECT @n AS n, @s AS s, ARRAY_LENGTH(@ns) AS length'
  sql query_labels 'body' --label=team:data 'SELECT 1 AS x'
  sql query_many '[len(body), total(body)]' --max_rows=2000 'SELECT n FROM UNNEST(GENERATE_ARRAY(1, 1500)) AS n'
  sql dry_run '[body["status"]["state"], body["statistics"]["query"]["totalBytesProcessed"]]' --dry_run 'SELECT 1 AS x'
  sql ddl_create_table 'text' "CREATE TABLE \`$d.people\` (id INT64, name STRING)"
  sql dml_insert 'text' "INSERT INTO \`$d.people\` (id, name) VALUES (1, 'Ada'), (2, 'Bo')"
  sql dml_update 'text' "UPDATE \`$d.people\` SET name = 'Bob' WHERE id = 2"
  sql dml_delete 'text' "DELETE FROM \`$d.people\` WHERE id = 1"
  sql dml_rows 'body' "SELECT * FROM \`$d.people\` ORDER BY id"
  sql script 'body' 'DECLARE x INT64 DEFAULT 41; SET x = x + 1; SELECT x AS answer;'
}

writes() {
  printf 'id,name\n1,"a, b"\n2,é\n' >"$work/rows.csv"
  printf '{"id": 1, "name": "x"}\n{"id": 2, "name": null}\n' >"$work/rows.json"
  step load_csv 'text' load --source_format=CSV --skip_leading_rows=1 "$d.from_csv" "$work/rows.csv" id:INTEGER,name:STRING
  step load_ndjson 'text' load --source_format=NEWLINE_DELIMITED_JSON --autodetect "$d.from_json" "$work/rows.json"
  step mk_table 'bool(text)' mk --table "$d.items" id:INTEGER,name:STRING
  step insert 'body.get("insertErrors", [])' insert "$d.items" "$work/rows.json"
  step mk_view 'bool(text)' mk --use_legacy_sql=false --view "SELECT name FROM \`$d.people\`" "$d.names"
  step cp 'bool(text)' cp "$d.from_csv" "$d.copied"
  step rm_table 'text' rm -f -t "$d.copied"
}

reads() {
  step head 'body' head --max_rows=3 "$d.from_csv"
  step head_window 'body' head --start_row=1 --max_rows=1 "$d.from_csv"
  step ls_datasets 'DATASET in [each["datasetReference"]["datasetId"] for each in body]' ls --max_results=1000
  step ls_tables 'sorted(each["tableReference"]["tableId"] + " " + each["type"] for each in body)' ls "$d"
  step show_dataset 'body["datasetReference"]["datasetId"]' show "$d"
  step update_dataset 'bool(text)' update --description described "$d"
  step show_schema 'body' show --schema "$d.from_csv"
}

errors() {
  sql error_syntax 'body' 'SELEC 1'
  sql error_syntax_rpc '"Syntax error" in text' --rpc=true 'SELEC 1'
  sql error_missing_table_in_query 'body' "SELECT * FROM \`$d.nowhere\`"
  step error_missing_table 'body' show "$d.nowhere"
  step error_missing_dataset 'body' show "${d}_nowhere"
  step error_missing_job 'body' show -j scenario-no-such-job
  step error_dataset_exists 'text' mk --dataset "$d"
}

main
