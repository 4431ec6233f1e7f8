#!/usr/bin/env bash
# The BigQuery REST API by hand, with curl; see ../README.md for the environment.
set -uo pipefail

# Without an address, as under `hansard exec`: BigQuery's own, and no credential.
: "${BIGQUERY_URL:=https://bigquery.googleapis.com}" "${BIGQUERY_DATASET:?}"
export BIGQUERY_URL BIGQUERY_DATASET BIGQUERY_PROJECT="${BIGQUERY_PROJECT:-proj}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
api="$BIGQUERY_URL/bigquery/v2"
project="$api/projects/$BIGQUERY_PROJECT"
dataset="$project/datasets/$BIGQUERY_DATASET"
upload="$BIGQUERY_URL/upload/bigquery/v2/projects/$BIGQUERY_PROJECT/jobs"

main() {
  authorize
  datasets_and_queries
  jobs
  tables_and_rows
  transport
  uploads
  errors
  step delete_dataset 'status' -X DELETE "$dataset?deleteContents=true"
  step dataset_is_gone 'status' "$dataset"
}

# The header lives in a file so that no token shows in the process list.
authorize() {
  : >"$work/auth"
  if [[ -n ${BIGQUERY_KEY_FILE:-} ]]; then
    bearer "$(exchanged "$BIGQUERY_KEY_FILE")"
  elif [[ -n ${BIGQUERY_TOKEN:-} ]]; then
    bearer "$BIGQUERY_TOKEN"
  fi
}

bearer() { printf 'header = "Authorization: Bearer %s"\n' "$1" >"$work/auth"; }

# RFC 7523: a signed assertion for an access token.
exchanged() {
  key_field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }
  base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
  local uri email id now head claims signature
  uri=$(key_field "$1" token_uri) email=$(key_field "$1" client_email) id=$(key_field "$1" private_key_id) now=$(date +%s)
  key_field "$1" private_key >"$work/key.pem"
  head=$(printf '{"alg":"RS256","typ":"JWT","kid":"%s"}' "$id" | base64url)
  claims=$(printf '{"iss":"%s","aud":"%s","scope":"https://www.googleapis.com/auth/bigquery","iat":%d,"exp":%d}' "$email" "$uri" "$now" $((now + 3600)) | base64url)
  signature=$(printf '%s.%s' "$head" "$claims" | openssl dgst -sha256 -sign "$work/key.pem" -binary | base64url)
  curl -sS --data-urlencode grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer \
    --data-urlencode "assertion=$head.$claims.$signature" "$uri" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'
}

# call CURL_ARGUMENTS...: leaves $work/status, $work/body and $work/headers.
call() {
  : >"$work/body"
  : >"$work/headers"
  curl -q -sS --max-time 60 --config "$work/auth" -o "$work/body" -D "$work/headers" -w '%{http_code}' "$@" >"$work/status"
}

# step NAME EXPRESSION CURL_ARGUMENTS...
step() {
  call "${@:3}"
  say "$1" "$2"
}

say() { python3 "$here/../shape.py" http "$1" "$(cat "$work/status")" "$work/body" "$work/headers" "$2"; }

field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1])).get(sys.argv[2]) or "")' "$work/body" "$1"; }

json=(-H 'Content-Type: application/json')

datasets_and_queries() {
  step create_dataset 'body["datasetReference"]["datasetId"]' "${json[@]}" "$project/datasets" \
    -d '{"datasetReference": {"datasetId": "'"$BIGQUERY_DATASET"'"}, "location": "US"}'
  step jobs_query '[body["jobComplete"], body["schema"], body["rows"], body["totalRows"]]' "${json[@]}" "$project/queries" \
    -d '{"query": "SELECT 1 AS x, [1, 2] AS y, STRUCT(\"a\" AS b) AS z", "useLegacySql": false}'
  step jobs_query_compact 'body["rows"]' "${json[@]}" "$project/queries?prettyPrint=false&alt=json" \
    -d '{"query": "SELECT 1 AS x", "useLegacySql": false, "formatOptions": {"useInt64Timestamp": true}, "requestId": "scenario-1"}'
  step jobs_query_parameters 'body["rows"]' "${json[@]}" "$project/queries" \
    -d '{"query": "SELECT @n + 1 AS n", "useLegacySql": false, "parameterMode": "NAMED", "queryParameters": [{"name": "n", "parameterType": {"type": "INT64"}, "parameterValue": {"value": "41"}}]}'
  step jobs_query_dry_run '[body["jobComplete"], body.get("totalBytesProcessed")]' "${json[@]}" "$project/queries" \
    -d '{"query": "SELECT 1 AS x", "useLegacySql": false, "dryRun": true}'
  step jobs_query_ddl '[body["jobComplete"]]' "${json[@]}" "$project/queries" \
    -d '{"query": "CREATE TABLE `'"$BIGQUERY_DATASET"'.people` (id INT64, name STRING)", "useLegacySql": false}'
  step jobs_query_dml 'body.get("numDmlAffectedRows")' "${json[@]}" "$project/queries" \
    -d '{"query": "INSERT INTO `'"$BIGQUERY_DATASET"'.people` (id, name) VALUES (1, \"Ada\"), (2, \"Bo\")", "useLegacySql": false}'
  step jobs_query_max_results '[len(body["rows"]), body["totalRows"], bool(body.get("pageToken"))]' "${json[@]}" "$project/queries" \
    -d '{"query": "SELECT n FROM UNNEST(GENERATE_ARRAY(1, 50)) AS n", "useLegacySql": false, "maxResults": 20}'
}

jobs() {
  local job="${BIGQUERY_DATASET}_numbers" page=1 token=''
  step jobs_insert '[body["jobReference"]["jobId"], body["configuration"]["labels"]]' "${json[@]}" "$project/jobs" \
    -d '{"jobReference": {"projectId": "'"$BIGQUERY_PROJECT"'", "jobId": "'"$job"'"}, "configuration": {"labels": {"team": "data"}, "query": {"query": "SELECT n FROM UNNEST(GENERATE_ARRAY(1, 2500)) AS n ORDER BY n", "useLegacySql": false}}}'
  step jobs_get '[body["status"]["state"], body["jobReference"]["jobId"]]' "$project/jobs/$job?location=US"
  step get_query_results_none '[body["jobComplete"], body["totalRows"], body.get("rows", [])]' "$project/queries/$job?maxResults=0&timeoutMs=1000&location=US"
  while ((page <= 5)); do
    step "get_query_results_page_$page" '[len(body["rows"]), total(body["rows"]), bool(body.get("pageToken"))]' \
      -G "$project/queries/$job" -d maxResults=1000 -d location=US ${token:+--data-urlencode "pageToken=$token"}
    token=$(field pageToken)
    [[ -n $token ]] || break
    page=$((page + 1))
  done
  step get_query_results_start_index 'body["rows"]' "$project/queries/$job?startIndex=2498&maxResults=10"
  step jobs_cancel 'body["job"]["status"]["state"]' -X POST "$project/jobs/$job/cancel"
  step jobs_list 'DATASET + "_numbers" in [each["jobReference"]["jobId"] for each in body["jobs"]]' "$project/jobs?maxResults=1000&projection=full"
}

tables_and_rows() {
  step tables_insert 'body["schema"]["fields"]' "${json[@]}" "$dataset/tables" \
    -d '{"tableReference": {"projectId": "'"$BIGQUERY_PROJECT"'", "datasetId": "'"$BIGQUERY_DATASET"'", "tableId": "items"}, "schema": {"fields": [{"name": "id", "type": "INTEGER"}, {"name": "name", "type": "STRING"}]}}'
  step insert_all 'body.get("insertErrors", [])' "${json[@]}" "$dataset/tables/items/insertAll" \
    -d '{"rows": [{"insertId": "a", "json": {"id": 1, "name": "nail"}}, {"insertId": "b", "json": {"id": 2, "name": "é"}}, {"json": {"id": 3}}]}'
  step tabledata_list '[body["totalRows"], body["rows"]]' "$dataset/tables/items/data"
  step tabledata_list_fields 'body["rows"]' --compressed "$dataset/tables/items/data?fields=rows,pageToken&maxResults=2"
  step tabledata_list_selected 'body["rows"]' "$dataset/tables/items/data?selectedFields=name"
  local token
  call "$dataset/tables/items/data?maxResults=2"
  token=$(field pageToken)
  step tabledata_list_next 'body["rows"]' -G "$dataset/tables/items/data" -d maxResults=2 --data-urlencode "pageToken=$token"
  step tables_get '[body["type"], body["schema"]["fields"]]' "$dataset/tables/items"
  step tables_patch 'body["description"]' -X PATCH "${json[@]}" "$dataset/tables/items" -d '{"description": "described"}'
  step tables_list 'sorted(each["tableReference"]["tableId"] for each in body["tables"])' "$dataset/tables?maxResults=50"
  step datasets_get 'body["location"]' "$dataset"
  step datasets_patch 'body["description"]' -X PATCH "${json[@]}" "$dataset" -d '{"description": "changed"}'
  step datasets_list 'DATASET in [each["datasetReference"]["datasetId"] for each in body["datasets"]]' "$project/datasets?all=true&maxResults=1000"
}

transport() {
  local query='{"query": "SELECT 42 AS answer", "useLegacySql": false}'
  step gzip_answer 'len(body["rows"])' --compressed "$project/queries/${BIGQUERY_DATASET}_numbers?maxResults=2500"
  printf '%s' "$query" | gzip >"$work/query.gz"
  step gzip_request 'body["rows"]' "${json[@]}" -H 'Content-Encoding: gzip' --data-binary "@$work/query.gz" "$project/queries"
  step chunked_request 'body["rows"]' "${json[@]}" -H 'Transfer-Encoding: chunked' -d "$query" "$project/queries"
  step expect_continue 'body["rows"]' "${json[@]}" -H 'Expect: 100-continue' -d "$query" "$project/queries"
  python3 -c 'import json; print(json.dumps({"query": "SELECT LENGTH(\"" + "x" * 300000 + "\") AS n", "useLegacySql": False}))' >"$work/large.json"
  step large_request 'body["rows"]' "${json[@]}" --data-binary "@$work/large.json" "$project/queries"
  step http_1_0 'body["rows"]' --http1.0 "${json[@]}" -d "$query" "$project/queries"
  step charset 'body["rows"]' -H 'Content-Type: application/json; charset=UTF-8' -d "$query" "$project/queries"
  step percent_encoded_path 'body["tableReference"]["tableId"]' "$dataset/tables/%69tems"
  keep_alive
  if_none_match
  # The emulator knows no method override and refuses these two.
  step method_override_get 'body["totalRows"]' -X POST -H 'X-HTTP-Method-Override: GET' "$dataset/tables/items/data"
  step method_override_patch 'body["description"]' -X POST -H 'X-HTTP-Method-Override: PATCH' "${json[@]}" "$dataset/tables/items" -d '{"description": "again"}'
}

keep_alive() {
  local new_connections
  new_connections=$(curl -q -sS --config "$work/auth" -o "$work/body" -w '%{num_connects} ' "$dataset" \
    --next -sS --config "$work/auth" -o "$work/body" -w '%{num_connects} ' "$dataset/tables")
  echo 200 >"$work/status"
  say keep_alive "'$new_connections'.split()"
}

if_none_match() {
  call "$dataset/tables/items"
  step if_none_match 'status' -H "If-None-Match: $(field etag)" "$dataset/tables/items"
}

load_configuration() {
  printf '{"configuration": {"load": {"sourceFormat": "CSV", "skipLeadingRows": 1, "schema": {"fields": [{"name": "id", "type": "INTEGER"}, {"name": "name", "type": "STRING"}]}, "destinationTable": {"projectId": "%s", "datasetId": "%s", "tableId": "%s"}}}}' \
    "$BIGQUERY_PROJECT" "$BIGQUERY_DATASET" "$1"
}

loaded='[body["status"]["state"], body["status"].get("errorResult"), body["statistics"]["load"]["outputRows"]]'

uploads() {
  multipart_upload
  resumable_upload
  step upload_rows_read_back '[body["totalRows"], body["rows"]]' "$dataset/tables/resumed/data?maxResults=2"
}

multipart_upload() {
  {
    printf -- '--part\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n' "$(load_configuration multipart)"
    printf -- '--part\r\nContent-Type: text/csv\r\n\r\nid,name\n1,one\n2,"t,wo"\n\r\n--part--\r\n'
  } >"$work/multipart"
  step upload_multipart "$loaded" -H 'Content-Type: multipart/related; boundary=part' --data-binary "@$work/multipart" "$upload?uploadType=multipart"
}

resumable_upload() {
  local chunk=$((256 * 1024)) size location
  python3 -c 'print("id,name"); [print(f"{n},row number {n}") for n in range(15000)]' >"$work/rows.csv"
  size=$(stat -c %s "$work/rows.csv")
  head -c $chunk "$work/rows.csv" >"$work/first"
  tail -c +$((chunk + 1)) "$work/rows.csv" >"$work/rest"

  step upload_resumable_start '[status, headers["location"].startswith(URL + "/"), bool(headers.get("x-guploader-uploadid"))]' "${json[@]}" \
    -H 'X-Upload-Content-Type: text/csv' -H "X-Upload-Content-Length: $size" -d "$(load_configuration resumed)" "$upload?uploadType=resumable"
  location=$(sed -n 's/^[Ll]ocation: *//p' "$work/headers" | tr -d '\r')
  step upload_resumable_first '[status, headers.get("range")]' -X PUT -H 'Content-Type: text/csv' \
    -H "Content-Range: bytes 0-$((chunk - 1))/$size" --data-binary "@$work/first" "$location"
  step upload_resumable_status '[status, headers.get("range")]' -X PUT -H "Content-Range: bytes */$size" -H 'Content-Length: 0' "$location"
  step upload_resumable_last "$loaded" -X PUT -H 'Content-Type: text/csv' \
    -H "Content-Range: bytes $chunk-$((size - 1))/$size" --data-binary "@$work/rest" "$location"
}

errors() {
  step error_syntax_query '[body["jobComplete"], [each["reason"] for each in body.get("errors", [])]]' "${json[@]}" "$project/queries" \
    -d '{"query": "SELEC 1", "useLegacySql": false}'
  step error_syntax_insert '[body["status"]["state"], body["status"]["errorResult"]["reason"]]' "${json[@]}" "$project/jobs" \
    -d '{"configuration": {"query": {"query": "SELEC 1", "useLegacySql": false}}}'
  step error_missing_table 'status' "$dataset/tables/nowhere"
  step error_missing_table_data 'status' "$dataset/tables/nowhere/data"
  step error_missing_dataset 'status' "${dataset}_nowhere"
  step error_missing_job 'status' "$project/jobs/scenario-no-such-job"
  step error_dataset_exists 'status' "${json[@]}" "$project/datasets" -d '{"datasetReference": {"datasetId": "'"$BIGQUERY_DATASET"'"}}'
  refused error_not_json "${json[@]}" "$project/queries" -d '{not json'
  refused error_unknown_method "$project/nonsense"
  refused error_unknown_service "$BIGQUERY_URL/nonsense/v1/projects"
  refused error_mcp "${json[@]}" "$BIGQUERY_URL/mcp" -d '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
}

# refused NAME CURL_ARGUMENTS...: only the status, where emulator and BigQuery word the refusal differently.
refused() {
  call "${@:2}"
  printf '{"step": "%s", "value": {"status": %d}}\n' "$1" "$(cat "$work/status")"
}

main
